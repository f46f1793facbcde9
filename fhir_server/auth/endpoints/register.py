"""``POST /auth/register``: https://www.rfc-editor.org/rfc/rfc7591, for who holds an initial access
token of an administrator. Nothing that the request names is fetched.
"""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import urlsplit

from fhir_server.auth.clients import LOOPBACK, Client, Method, check, hashed_secret, holds_private
from fhir_server.auth.exchange import Ask, OAuthRefusal, Reply, json_reply
from fhir_server.auth.invitations import Invitations, spending
from fhir_server.auth.notes import note
from fhir_server.auth.records import new_secret
from fhir_server.auth.server import Server
from fhir_server.auth.throttle import origin
from fhir_server.model.problem import BadRequest

METHODS: Final[dict[str, Method]] = {
    "none": "public",
    "client_secret_basic": "secret",
    "client_secret_post": "secret",
    "private_key_jwt": "keys",
}
"""Of RFC 7591 and OpenID Connect -> how a client says who it is here."""
GRANTS: Final = ("authorization_code", "refresh_token", "client_credentials")
LONGEST: Final = 8192
MOST: Final = 16
"""Redirect addresses of a client."""
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


async def register(server: Server, ask: Ask) -> Reply:
    """201 with the client as it was registered, its secret this once."""
    if not server.rules.registration:
        raise OAuthRefusal("access_denied", "clients are registered by administrators", 403)
    server.rates.spend_delicate(f"address {origin(ask.address)}")
    row = await Invitations(server.identities.records).find(ask.bearer())
    if row is None:
        raise OAuthRefusal("invalid_token", "an initial access token is needed", 401, CHALLENGE)
    given = ask.body or {}
    client, secret = _client(server, given, row.value["scope"])
    if not await server.identities.clients.register(client, spending(row)):
        raise OAuthRefusal("invalid_token", "the token was used before", 401, CHALLENGE)
    await note(server, ask, "register", client=client.id)
    return json_reply(_described(server, given, client, secret), 201)


def _client(server: Server, given: dict[str, Any], ceiling: str) -> tuple[Client, str]:
    """The client that is asked for, and its secret, if it has one."""
    way = _text(given, "token_endpoint_auth_method", "client_secret_basic")
    if way not in METHODS:
        raise _wrong(f"token_endpoint_auth_method is one of {', '.join(METHODS)}")
    method, keys = METHODS[way], given.get("jwks", given.get("jwks_uri"))
    if "jwks" in given and "jwks_uri" in given:
        raise _wrong("a client has jwks or jwks_uri")
    if (method == "keys") != (keys is not None):
        raise _wrong("keys belong to private_key_jwt")
    secret = new_secret() if method == "secret" else ""
    client = Client(
        id=secrets.token_hex(16),
        name=_text(given, "client_name", "App")[:256],
        method=method,
        redirects=_redirects(given, method),
        scope=_scope(server, _text(given, "scope", ceiling), ceiling),
        secret=hashed_secret(secret) if secret else "",
        keys=_keys(keys),
        disabled=False,
    )
    try:
        check(client)
    except BadRequest as problem:
        raise OAuthRefusal("invalid_redirect_uri", str(problem)) from None
    return client, secret


def _redirects(given: dict[str, Any], method: Method) -> tuple[str, ...]:
    """https; loopback and private schemes are for native apps, which keep no secret."""
    found = given.get("redirect_uris", [])
    grants = given.get("grant_types", ["authorization_code"])
    if not isinstance(grants, list) or not all(g in GRANTS for g in grants):
        raise _wrong(f"grant_types are of {', '.join(GRANTS)}")
    if given.get("response_types", ["code"]) != ["code"] and "authorization_code" in grants:
        raise _wrong("response_types is code")
    texts = isinstance(found, list) and all(isinstance(uri, str) for uri in found)
    if not texts or len(found) > MOST or any(len(uri) > 2048 for uri in found):
        raise OAuthRefusal("invalid_redirect_uri", "redirect_uris is a short list of addresses")
    if ("authorization_code" in grants) != bool(found):
        raise OAuthRefusal("invalid_redirect_uri", "the code grant needs redirect_uris")
    native = given.get("application_type") == "native" and method == "public"
    for uri in found:
        parts = urlsplit(uri)
        if not native and (parts.scheme != "https" or parts.hostname in LOOPBACK):
            raise OAuthRefusal(
                "invalid_redirect_uri", "addresses are https, but for native public apps"
            )
    return tuple(found)


def _scope(server: Server, asked: str, ceiling: str) -> str:
    granted = server.negotiation.granted(asked, ceiling, ("patient", "user", "system"))
    if not granted:
        raise _wrong("nothing of the scope may be registered")
    return " ".join(granted)


def _keys(found: Any) -> dict[str, Any] | str | None:
    if found is None:
        return None
    if isinstance(found, str):
        if not found.startswith("https://") or len(found) > 2048:
            raise _wrong("jwks_uri is an https URL")
        return found
    rows = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise _wrong("jwks is a key set")
    if holds_private(rows):
        raise _wrong("jwks holds public keys alone")
    return {"keys": rows}


def _text(given: dict[str, Any], name: str, default: str) -> str:
    found = given.get(name, default)
    if not isinstance(found, str) or not 0 < len(found) <= LONGEST or not found.isprintable():
        raise _wrong(f"{name} is a text")
    return found


def _wrong(description: str) -> OAuthRefusal:
    return OAuthRefusal("invalid_client_metadata", description)


def _described(
    server: Server, given: dict[str, Any], client: Client, secret: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "client_id": client.id,
        "client_id_issued_at": int(server.now),
        "client_name": client.name,
        "redirect_uris": list(client.redirects),
        "token_endpoint_auth_method": given.get(
            "token_endpoint_auth_method", "client_secret_basic"
        ),
        "grant_types": given.get("grant_types", ["authorization_code"]),
        "response_types": ["code"] if client.redirects else [],
        "scope": client.scope,
    }
    if secret:
        found |= {"client_secret": secret, "client_secret_expires_at": 0}
    if client.keys is not None:
        found["jwks_uri" if isinstance(client.keys, str) else "jwks"] = client.keys
    return found
