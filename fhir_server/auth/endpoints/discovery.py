"""What the server can do: https://hl7.org/fhir/smart-app-launch/conformance.html and
https://openid.net/specs/openid-connect-discovery-1_0.html. Only what works is listed.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.access.scopes import V1
from fhir_server.auth.assertions import ALGORITHMS
from fhir_server.auth.exchange import Ask, Reply, json_reply
from fhir_server.auth.keys import ALGORITHM
from fhir_server.auth.negotiation import WORDS
from fhir_server.auth.server import Rules, Server

CAPABILITIES: Final = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)
GRANTS: Final = ("authorization_code", "refresh_token", "client_credentials")
METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt", "none")
SCOPES: Final = (
    *WORDS,
    *(f"{context}/*.cruds" for context in ("patient", "user", "system")),
    *(f"{context}/*.{v1}" for context in ("patient", "user", "system") for v1 in V1),
)
OF_PATIENTS: Final = ("launch-ehr", "context-", "permission-patient")
"""Begins capabilities of a base in which a patient can be open."""
OF_PEOPLE: Final = (
    *("openid", "fhirUser", "offline_access", "online_access", "user/*.rs", "user/*.read"),
)
STYLE: Final = {
    "color_background": "#f6f7f9",
    "color_error": "#a4161a",
    "color_highlight": "#0b5cad",
    "color_modal_backdrop": "",
    "color_success": "#1b6e3c",
    "color_text": "#1c2430",
    "dim_border_radius": "6px",
    "dim_font_size": "16px",
    "dim_spacing_size": "16px",
    "font_family_body": "system-ui, sans-serif",
    "font_family_heading": "system-ui, sans-serif",
}
"""https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#styling"""


def _shared(rules: Rules) -> dict[str, Any]:
    return {
        "issuer": rules.issuer,
        "jwks_uri": rules.url("jwks"),
        "authorization_endpoint": rules.url("authorize"),
        "token_endpoint": rules.url("token"),
        "introspection_endpoint": rules.url("introspect"),
        "revocation_endpoint": rules.url("revoke"),
        "userinfo_endpoint": rules.url("userinfo"),
        "token_endpoint_auth_methods_supported": list(METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": list(GRANTS),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": list(SCOPES),
        "authorization_response_iss_parameter_supported": True,
        **({"registration_endpoint": rules.url("register")} if rules.registration else {}),
    }


def smart_configuration(rules: Rules, *, people: bool = False) -> dict[str, Any]:
    """The document of ``[base]/.well-known/smart-configuration``. ``people``: of a base that only
    users read, of which no patient is opened and for which no service gets a token.
    """
    found = {
        **_shared(rules),
        "management_endpoint": rules.url("apps"),
        "capabilities": list(CAPABILITIES),
    }
    if people:
        found["capabilities"] = [c for c in CAPABILITIES if not c.startswith(OF_PATIENTS)]
        found["grant_types_supported"] = [g for g in GRANTS if g != "client_credentials"]
        found["scopes_supported"] = list(OF_PEOPLE)
    return found


def oauth_uris(rules: Rules) -> dict[str, str]:
    """What the CapabilityStatement names (extension oauth-uris)."""
    found = {
        "authorize": rules.url("authorize"),
        "token": rules.url("token"),
        "introspect": rules.url("introspect"),
        "revoke": rules.url("revoke"),
        "manage": rules.url("apps"),
    }
    return found | ({"register": rules.url("register")} if rules.registration else {})


async def openid_configuration(server: Server, ask: Ask) -> Reply:
    return json_reply(
        {
            **_shared(server.rules),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "fhirUser"],
            "claims_parameter_supported": False,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
        },
        headers={"Cache-Control": "public, max-age=300"},
    )


async def jwks(server: Server, ask: Ask) -> Reply:
    return json_reply(server.keys.published(), headers={"Cache-Control": "public, max-age=300"})


async def style(server: Server, ask: Ask) -> Reply:
    return json_reply(STYLE, headers={"Cache-Control": "public, max-age=300"})
