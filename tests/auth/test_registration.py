"""Dynamic registration (RFC 7591): off by default, with an initial access token, for one app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.auth.invitations import Invitations
from tests.serving import Server, served
from tests.smart.conftest import people
from tests.smart.flow import AUTH, FHIR, App, bearer, tokens_for

JSON = {"content-type": "application/json"}
NEW: dict[str, Any] = {
    "client_name": "Growth",
    "redirect_uris": ["https://new.example.org/cb"],
    "token_endpoint_auth_method": "none",
    "scope": "launch/patient patient/*.rs user/*.cruds system/*.cruds administration",
}


@pytest.fixture
def welcoming(tmp_path: Path) -> Iterator[Server]:
    with served("memory", tmp_path, open_=False, registration="token") as server:
        yield people(server)


def invited(server: Server, **how: Any) -> str:
    return server.run(Invitations(server.domain.identities.records).make(**how))


def register(server: Server, token: str, **changed: Any) -> httpx.Response:
    body = {k: v for k, v in {**NEW, **changed}.items() if v is not None}
    headers = {**JSON, "authorization": f"Bearer {token}"} if token else JSON
    return server.post(f"{AUTH}/register", body, headers=headers)


def test_an_app_registers_and_is_used(welcoming: Server) -> None:
    token = invited(welcoming)
    answer = register(welcoming, token)
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made["scope"] == "launch/patient patient/*.rs", "no user/ or system/ scopes"
    assert "client_secret" not in made
    app = App(welcoming, made["client_id"], NEW["redirect_uris"][0])
    tokens = tokens_for(app, "launch/patient patient/*.rs user/*.rs")
    assert welcoming.get("Patient/a", headers=bearer(tokens)).status_code == 200
    assert "user/" not in tokens["scope"]
    assert register(welcoming, token).status_code == 401, "a token is for one app"


def test_it_is_off_by_default(clinic: Server) -> None:
    assert register(clinic, invited(clinic)).status_code == 403
    for document in (
        f"{FHIR}/.well-known/smart-configuration",
        f"{AUTH}/.well-known/openid-configuration",
    ):
        assert "registration_endpoint" not in clinic.get(document).json()


def test_a10_it_is_listed_when_it_is_on(welcoming: Server) -> None:
    for document in (
        f"{FHIR}/.well-known/smart-configuration",
        f"{AUTH}/.well-known/openid-configuration",
    ):
        found = welcoming.get(document).json()
        assert found["registration_endpoint"] == f"{AUTH}/register"


def test_only_with_a_token(welcoming: Server) -> None:
    expired = invited(welcoming, minutes=-1)
    admin = welcoming.token("administration system/*.cruds", user="doc")
    for token in ("", "garbage", expired, admin):
        answer = register(welcoming, token)
        assert answer.status_code == 401 and "client_id" not in answer.text


def test_secrets_and_keys(welcoming: Server) -> None:
    secret = register(welcoming, invited(welcoming), token_endpoint_auth_method=None).json()
    assert len(secret["client_secret"]) >= 40 and secret["client_secret_expires_at"] == 0
    app = App(welcoming, secret["client_id"], NEW["redirect_uris"][0], secret["client_secret"])
    assert "access_token" in tokens_for(app, "launch/patient patient/*.rs")
    keys = {"keys": [{"kty": "EC", "kid": "k", "crv": "P-384", "x": "A", "y": "A"}]}
    asked = {"token_endpoint_auth_method": "private_key_jwt", "jwks": keys}
    assert register(welcoming, invited(welcoming), **asked).json()["jwks"] == keys
    service = {
        **asked,
        "redirect_uris": None,
        "grant_types": ["client_credentials"],
        "scope": "system/Patient.rs",
    }
    assert register(welcoming, invited(welcoming), **service).status_code == 400
    allowed = invited(welcoming, scope="system/*.rs")
    assert register(welcoming, allowed, **service).json()["scope"] == "system/Patient.rs"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"redirect_uris": ["http://app.example.org/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example.org/cb#f"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://u@app.example.org/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example.org/a/../cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://127.0.0.1/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://localhost:80@evil.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.example.org/cb"}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"https://a.example/{n}" for n in range(17)]}, "invalid_redirect_uri"),
        ({"grant_types": ["password"]}, "invalid_client_metadata"),
        ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"jwks": {"keys": [{}]}}, "invalid_client_metadata"),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://10.0.0.1/"},
            "invalid_client_metadata",
        ),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"d": "x"}]}},
            "invalid_client_metadata",
        ),
        ({"scope": "system/*.cruds"}, "invalid_client_metadata"),
        ({"client_name": {"a": 1}}, "invalid_client_metadata"),
        ({"client_name": "a\nb"}, "invalid_client_metadata"),
    ],
)
def test_what_cannot_be_registered(welcoming: Server, changed: dict[str, Any], error: str) -> None:
    token = invited(welcoming)
    answer = register(welcoming, token, **changed)
    assert (answer.status_code, answer.json().get("error")) == (400, error), answer.text
    assert register(welcoming, token).status_code == 201, "a refusal spends nothing"


def test_a_native_app_may_use_loopback(welcoming: Server) -> None:
    native = {"application_type": "native", "redirect_uris": ["http://127.0.0.1/cb"]}
    assert register(welcoming, invited(welcoming), **native).status_code == 201
    confidential = {**native, "token_endpoint_auth_method": "client_secret_basic"}
    assert register(welcoming, invited(welcoming), **confidential).status_code == 400


def test_t20_registrations_from_an_address_are_limited(tmp_path: Path) -> None:
    rules = {"registration": "token", "delicate_rate": 3}
    with served("memory", tmp_path, open_=False, **rules) as server:
        found = [register(server, "garbage") for _ in range(5)]
        assert [answer.status_code for answer in found] == [401, 401, 401, 429, 429]
        assert int(found[-1].headers["retry-after"]) >= 1
