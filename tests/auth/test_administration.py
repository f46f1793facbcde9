"""Administration over HTTP: the same acts as the commands, for administrators alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from fhir_server.auth.clients import Client, check
from fhir_server.auth.routes import ADMINISTRATION, ENDPOINTS, Endpoint
from fhir_server.model.problem import BadRequest
from tests.auth.test_security_log import Kept
from tests.auth.test_security_log import kept as kept
from tests.auth.test_security_log import watched as watched
from tests.serving import Server
from tests.smart.flow import AUTH, ROOT, App, Browser, bearer, tokens_for

SCOPE = "administration"
JSON = {"content-type": "application/json"}
OFFLINE = "openid launch/patient patient/*.rs offline_access"


class Admin:
    """An administrator's client."""

    def __init__(self, server: Server, scope: str = SCOPE, role: str = "admin") -> None:
        self.server = server
        name = f"the-{role}"
        if server.run(server.domain.identities.users.find(name)) is None:
            server.user(name, role, "Practitioner/d")
        self.headers = server.bearer(scope, user=name, client="console")

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        kind = JSON if body is not None else {}
        return self.server.send(
            method, f"{AUTH}/admin/{path}", json=body, headers={**self.headers, **kind}
        )


def test_a_user_from_the_first_day_to_the_last(clinic: Server) -> None:
    admin = Admin(clinic)
    made = admin("POST", "users", {"name": "eve", "role": "nurse", "fhirUser": "Practitioner/e"})
    assert made.status_code == 201 and "$argon2" not in made.text
    password = made.json()["password"]
    browser = Browser(clinic)
    page = browser.sign_in(browser.get(f"{AUTH}"), "eve", password)
    assert "eve" in page.text
    assert admin("POST", "users", {"name": "eve", "role": "nurse"}).status_code == 409
    relation = {"user": "eve", "patient": "a", "kind": "episode", "end": "2100-01-01T00:00:00Z"}
    assert admin("POST", "relations", relation).status_code == 201
    token = clinic.bearer("user/*.rs", user="eve")
    assert clinic.get("Patient/a", headers=token).status_code == 200
    found = admin("GET", "relations?user=eve").json()["relations"]
    assert [(r["patient"], r["kind"], r["end"]) for r in found] == [
        ("a", "episode", "2100-01-01T00:00:00Z")
    ]
    assert admin("POST", "relations/end", {"user": "eve", "patient": "a"}).status_code == 200
    assert clinic.get("Patient/a", headers=token).status_code == 404
    assert admin("PATCH", "users/eve", {"role": "researcher"}).json()["role"] == "researcher"
    assert clinic.get("Patient/a", headers=token).status_code == 403
    sessions = admin("GET", "sessions?user=eve").json()["sessions"]
    assert len(sessions) == 1 and sessions[0]["user"] == "eve"
    assert admin("DELETE", f"sessions/{sessions[0]['id']}").status_code == 204
    assert 'name="password"' in browser.get(AUTH).text
    changed = admin("PATCH", "users/eve", {"password": "another long password"})
    assert changed.status_code == 200
    again = Browser(clinic)
    assert again.sign_in(again.get(AUTH), "eve", password).status_code == 401
    assert admin("PATCH", "users/eve", {"disabled": True}).json()["disabled"] is True
    assert clinic.get("Patient/a", headers=token).status_code == 401


def test_a_client_from_registration_to_its_end(clinic: Server) -> None:
    admin = Admin(clinic)
    body = {"id": "svc", "secret": "a secret of the service", "scope": "system/*.rs"}
    made = admin("POST", "clients", body)
    assert made.status_code == 201 and made.json()["method"] == "secret"
    assert "secret of" not in made.text and "secret" not in made.json()
    service = App(clinic, "svc", secret=body["secret"])
    asked = {"grant_type": "client_credentials", "scope": "system/Patient.rs"}
    tokens = service.post("token", **asked).json()
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 200
    narrowed = admin("PATCH", "clients/svc", {"scope": "system/Slot.rs"})
    assert narrowed.json()["scope"] == "system/Slot.rs"
    assert service.post("token", **asked).status_code == 400
    jwks = {"keys": [{"kty": "EC", "kid": "k"}]}
    assert admin("PATCH", "clients/svc", {"jwks": jwks}).json()["method"] == "keys"
    assert service.post("token", **asked).status_code == 401
    assert admin("PATCH", "clients/svc", {"disabled": True}).status_code == 200
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 401
    listed = {c["id"]: c["disabled"] for c in admin("GET", "clients").json()["clients"]}
    assert listed == {"app": False, "keeper": False, "svc": True}
    for member in ("d", "k"):
        private = {"keys": [{"kty": "EC", "kid": "k", member: "secret"}]}
        assert admin("PATCH", "clients/svc", {"jwks": private}).status_code == 400
        assert admin("POST", "clients", {"id": "two", "jwks": private}).status_code == 400
    wrong = {"redirects": ["http://evil.example.org/"]}
    assert admin("PATCH", "clients/svc", wrong).status_code == 400
    assert admin("PATCH", "clients/nobody", {"name": "x"}).status_code == 404
    assert admin("POST", "clients", {"id": "open"}).status_code == 400


@pytest.mark.parametrize(
    "url",
    [
        *("http://keys.example.org/jwks", "ftp://keys.example.org/jwks", "https://"),
        *("https://user:word@keys.example.org/jwks", "https://[x/jwks", "file:///etc/passwd"),
    ],
)
def test_g24_a_key_set_lies_at_an_https_url(url: str) -> None:
    client = Client("c", "c", "keys", (), "system/*.rs", "", url, disabled=False)
    with pytest.raises(BadRequest):
        check(client)
    check(replace(client, keys="https://keys.example.org/jwks"))


def test_d10_what_a_user_allowed_is_withdrawn(clinic: Server) -> None:
    admin, app = Admin(clinic), App(clinic)
    tokens = tokens_for(app, OFFLINE)
    found = admin("GET", "approvals?user=doc").json()["approvals"]
    assert [(a["client"], a["patient"]) for a in found] == [("app", "a")]
    assert admin("DELETE", f"approvals/{found[0]['id']}").status_code == 204
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 401
    assert app.refresh(tokens["refresh_token"]).status_code == 400
    assert admin("DELETE", f"approvals/{found[0]['id']}").status_code == 404


def test_keys_are_rotated(clinic: Server) -> None:
    admin = Admin(clinic)
    before = [row["kid"] for row in admin("GET", "keys").json()["keys"]]
    made = admin("POST", "keys/rotate", None).json()["kid"]
    assert [row["kid"] for row in admin("GET", "keys").json()["keys"]] == [made, *before]
    published = clinic.get(f"{AUTH}/jwks").json()["keys"]
    assert [key["kid"] for key in published] == [made, *before]


@pytest.mark.parametrize("row", ADMINISTRATION, ids=lambda r: f"{r.method} {r.path}")
def test_t04_nobody_else_administers(clinic: Server, row: Endpoint) -> None:
    """Neither other roles with the scope, nor administrators through apps without it."""
    path = re.sub(r"\{\w+\}", "doc", row.path.removeprefix("admin/"))
    body = {} if row.body == "json" else None
    for role in ("family-doctor", "nurse", "researcher", "ai-service"):
        assert Admin(clinic, SCOPE, role)(row.method, path, body).status_code == 403, role
    wide = "openid fhirUser introspection system/*.cruds user/*.cruds __expunge"
    assert Admin(clinic, wide)(row.method, path, body).status_code == 403
    service = Admin(clinic)
    service.headers = clinic.bearer(f"system/*.cruds {SCOPE}", client="svc")
    assert service(row.method, path, body).status_code == 403


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            {"name": "q", "role": "nurse", "fhir_user": "secret-a"},
            "the body: fhir_user is not known",
        ),
        ({"name": "q", "password": "secret-b!"}, "the body: role is missing"),
        ({"name": "q", "role": "nurse", "password": "secret-c"}, "password: minLength is not met"),
    ],
)
def test_what_is_wrong_is_named_and_no_value(clinic: Server, body: Any, told: str) -> None:
    answer = Admin(clinic)("POST", "users", body)
    assert answer.status_code == 400 and "secret" not in answer.text
    assert answer.json()["error_description"] == told


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("users", {"name": "x y", "role": "nurse"}),
        ("users", {"name": "x", "role": "king"}),
        ("users", {"name": "x", "role": "nurse", "password": "short"}),
        ("users", {"name": "x", "role": "nurse", "fhirUser": "Patient/../b"}),
        ("users", {"name": "x", "role": "nurse", "totp": "AAAA"}),
        ("users", {"name": "x", "role": "nurse", "subject": "me"}),
        ("users", []),
        ("clients", {"id": "x", "redirects": ["https://a.example/#f"]}),
        ("clients", {"id": "x", "secret": "0123456789abcdef", "jwks": {"keys": [{}]}}),
        ("relations", {"user": "doc", "patient": "a/b", "kind": "episode"}),
        ("relations", {"user": "doc", "patient": "a", "kind": "Very Wrong"}),
        ("relations", {"user": "doc", "patient": "a", "kind": "x", "end": "2000-01-01T00:00:00Z"}),
        ("relations", {"user": "doc", "patient": "a", "kind": "x", "end": "tomorrow"}),
    ],
)
def test_bad_input_changes_nothing(clinic: Server, path: str, body: Any) -> None:
    admin = Admin(clinic)
    before = admin("GET", path).text
    answer = admin("POST", path, body)
    assert answer.status_code == 400 and answer.json()["error"] == "invalid_request"
    assert "short" not in answer.text
    assert admin("GET", path).text == before
    unknown = {"user": "nobody", "patient": "a", "kind": "x"}
    assert admin("POST", "relations", unknown).status_code == 404
    assert admin("GET", "users/nobody%2f..").status_code == 404


def test_each_act_is_told(watched: tuple[Server, Kept]) -> None:
    server, log = watched
    admin = Admin(server)
    admin("POST", "users", {"name": "eve", "role": "nurse", "password": "a long password"})
    admin("PATCH", "users/eve", {"role": "specialist", "password": "one more password"})
    admin("POST", "relations", {"user": "eve", "patient": "a", "kind": "referral"})
    Admin(server, role="nurse")("GET", "users")
    told = [(e.what, e.outcome, e.user, e.reason, e.target, e.patient) for e in log.events]
    assert told == [
        ("admin", "success", "the-admin", "add", "user/eve", ""),
        ("admin", "success", "the-admin", "change", "user/eve", ""),
        ("admin", "success", "the-admin", "password", "user/eve", ""),
        ("admin", "success", "the-admin", "add", "relation/eve/referral", "a"),
        ("admin", "refused", "the-nurse", "insufficient_scope", "admin/users", ""),
    ]
    assert all(e.request and e.client == "console" for e in log.events)
    assert "long" not in str(log.events) and "one more" not in str(log.events)


def test_the_openapi_document_describes_every_endpoint(smart: Server) -> None:
    paths = smart.get(f"{ROOT}/docs/openapi.json").json()["paths"]
    for row in ENDPOINTS:
        found = paths[f"/auth/{row.path}".rstrip("/")][row.method.lower()]
        named = {p["name"] for p in found["parameters"]}
        assert named == set(re.findall(r"\{(\w+)\}", row.path))
        assert found["summary"] == row.description
        if row.schema is not None:
            schema = found["requestBody"]["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema == row.schema
