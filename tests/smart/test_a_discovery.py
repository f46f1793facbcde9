"""checks A: what the server says of itself is true."""

from __future__ import annotations

import pytest

from fhir_server.auth.endpoints.discovery import CAPABILITIES, SCOPES
from tests.serving import Server, served
from tests.smart.flow import AUTH, FHIR, ROOT

WELL_KNOWN = "/fhir/.well-known/smart-configuration"
G10 = {
    *("launch-ehr", "launch-standalone", "authorize-post", "client-public"),
    *("client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect"),
    *("context-banner", "context-style", "context-ehr-patient", "context-ehr-encounter"),
    *("context-standalone-patient", "permission-offline", "permission-patient"),
    *("permission-user", "permission-v1", "permission-v2"),
}


def test_a01_a02_discovery_is_public_json_whatever_is_accepted(smart: Server) -> None:
    bodies = set()
    for accept in ("application/json", "text/html", "application/fhir+xml", "*/*", "image/png"):
        answer = smart.get(WELL_KNOWN, headers={"accept": accept})
        assert answer.status_code == 200, (accept, answer.text)
        assert answer.headers["content-type"].startswith("application/json")
        bodies.add(answer.text)
    assert len(bodies) == 1


def test_a03_to_a07_members(smart: Server) -> None:
    found = smart.get(WELL_KNOWN).json()
    assert {"authorization_code", "client_credentials", "refresh_token"} == set(
        found["grant_types_supported"]
    )
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert set(found["capabilities"]) >= G10 and len(set(CAPABILITIES)) == len(CAPABILITIES)
    assert found["issuer"] == AUTH and found["jwks_uri"] == f"{AUTH}/jwks"
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    algorithms = set(found["token_endpoint_auth_signing_alg_values_supported"])
    assert algorithms == {"RS384", "ES384"}
    assert "registration_endpoint" not in found


def test_a08_urls_come_from_the_configuration(smart: Server) -> None:
    forged = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    text = smart.get(WELL_KNOWN, headers=forged).text
    assert "evil" not in text
    for name, value in smart.get(WELL_KNOWN).json().items():
        if name.endswith(("_endpoint", "_uri")):
            assert value.startswith(f"{ROOT}/auth/"), name
    refused = smart.get(WELL_KNOWN, headers={"host": "evil.example"})
    assert refused.status_code == 400


def test_a09_every_scope_that_is_listed_can_be_had(smart: Server) -> None:
    from tests.smart.conftest import APP_SCOPE

    negotiation = smart.app._inner._bases[b"auth"]._server.negotiation  # type: ignore[attr-defined]
    allowed = f"{APP_SCOPE} system/*.cruds"
    contexts = ("patient", "user", "system")
    assert negotiation.granted(" ".join(SCOPES), allowed, contexts) == list(SCOPES)


def test_a10_every_endpoint_is_there(smart: Server) -> None:
    for name, url in smart.get(WELL_KNOWN).json().items():
        if name.endswith(("_endpoint", "_uri")):
            answers = {smart.send(method, url).status_code for method in ("GET", "POST")}
            assert 404 not in answers and 501 not in answers and 500 not in answers, name


def test_a11_the_capability_statement_names_the_endpoints(smart: Server) -> None:
    rest = smart.get("metadata").json()["rest"][0]
    coding = rest["security"]["service"][0]["coding"][0]
    assert coding["code"] == "SMART-on-FHIR"
    (extension,) = rest["security"]["extension"]
    assert extension["url"].endswith("/StructureDefinition/oauth-uris")
    uris = {row["url"]: row["valueUri"] for row in extension["extension"]}
    assert uris["authorize"] == f"{AUTH}/authorize" and uris["token"] == f"{AUTH}/token"


def test_a12_any_page_may_read_the_discovery(smart: Server) -> None:
    origin = {"origin": "https://anywhere.example"}
    for url in (WELL_KNOWN, "metadata", f"{AUTH}/.well-known/openid-configuration"):
        allowed = smart.get(url, headers=origin).headers["access-control-allow-origin"]
        assert allowed in ("*", "https://anywhere.example")


def test_a13_pages_of_registered_clients_may_call(secured: Server) -> None:
    """(R17) Others get no permission, and nobody gets credentials."""
    secured.client("page", redirects=("https://app.example.org/cb",), scope="patient/*.rs")
    own, other = {"origin": "https://app.example.org"}, {"origin": "https://evil.example"}
    asked = {"access-control-request-method": "POST"}
    for method, url in (("POST", f"{AUTH}/token"), ("GET", "Patient"), ("OPTIONS", "Patient")):
        more = asked if method == "OPTIONS" else {}
        allowed = secured.send(method, url, headers=own | more).headers
        assert allowed["access-control-allow-origin"] == own["origin"]
        refused = secured.send(method, url, headers=other | more).headers
        assert "access-control-allow-origin" not in refused
        for headers in (allowed, refused):
            assert "origin" in headers["vary"].lower()
            assert "access-control-allow-credentials" not in headers
    secured.run(secured.domain.identities.clients.change("page", disabled=True))
    assert "access-control-allow-origin" not in secured.get("Patient", headers=own).headers


def test_an_open_server_has_no_authorization(tmp_path: object) -> None:
    with served("memory", tmp_path, open_=True) as server:  # type: ignore[arg-type]
        assert server.get(WELL_KNOWN).status_code == 501
        assert server.get(f"{AUTH}/authorize").status_code == 501
        security = server.get("metadata").json()["rest"][0]["security"]
        assert "extension" not in security and "service" not in security


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(smart: Server, method: str) -> None:
    answer = smart.send(method, f"{AUTH}/token")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert smart.send(method, f"{AUTH}/nothing").status_code == 404
    assert FHIR
