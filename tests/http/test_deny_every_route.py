"""No route but the public ones answers without a token that permits it."""

from __future__ import annotations

import pytest

from fhir_server.auth.tokens import Held
from fhir_server.http.routes import ROUTES, Route
from tests.serving import Server, issue

CANARY = "Canary-7f3a"
PUBLIC = {("GET", "metadata"), ("GET", ".well-known/smart-configuration")}
TOKENS = [
    "none",
    "garbage",
    "basic",
    "expired",
    "revoked",
    "no scope",
    "other type",
    "user",
    "user without relationship",
    "researcher",
    "unknown user",
    "disabled user",
    "disabled client",
    "wrong audience",
    "wrong",
]
UNKNOWN = {
    *("none", "garbage", "basic", "expired", "revoked", "unknown user", "disabled user"),
    *("disabled client", "wrong audience", "wrong"),
}


def planted(secured: Server) -> None:
    headers = secured.bearer("system/*.cruds")
    body = {"resourceType": "Patient", "id": "canary", "name": [{"family": CANARY}]}
    assert secured.put("Patient/canary", body, headers=headers).status_code == 201


def authorization(secured: Server, name: str) -> dict[str, str]:
    match name:
        case "none":
            return {}
        case "garbage":
            return {"authorization": "Bearer \x7fgarbage"}
        case "basic":
            return {"authorization": "Basic dGVzdDp0ZXN0"}
        case "expired":
            return secured.bearer("system/*.cruds", minutes=-1)
        case "revoked":
            token = secured.token("system/*.cruds")
            assert secured.run(secured.domain.tokens.revoke(token))
            return {"authorization": f"Bearer {token}"}
        case "no scope":
            return secured.bearer("openid launch")
        case "other type":
            return secured.bearer("system/Slot.cruds")
        case "user":
            secured.user("nobody", "nurse")
            return secured.bearer("user/*.cruds", user="nobody")
        case "user without relationship":
            secured.user("doctor", "family-doctor", "Practitioner/d")
            return secured.bearer("user/*.cruds patient/*.cruds", user="doctor", patient="canary")
        case "researcher":
            secured.user("researcher", "researcher", "Practitioner/r")
            return secured.bearer("user/*.cruds patient/*.cruds", user="researcher")
        case "unknown user":
            return secured.bearer("user/*.cruds", user="ghost")
        case "disabled user":
            secured.user("gone", "family-doctor", "Practitioner/d")
            secured.relation("gone", "canary")
            bearer = secured.bearer("user/*.cruds", user="gone")
            secured.run(secured.domain.identities.users.change("gone", disabled=True))
            return bearer
        case "disabled client":
            secured.client("gone", scope="system/*.cruds")
            bearer = secured.bearer("system/*.cruds", client="gone")
            secured.run(secured.domain.identities.clients.change("gone", disabled=True))
            return bearer
        case "wrong audience":
            held = Held("system/*.cruds", "test", audience="/research", operator=True)
            token, write = secured.domain.tokens.made(held, 300)
            secured.run(secured.domain.identities.records.commit(write))
            return {"authorization": f"Bearer {token}"}
        case _:
            return secured.bearer("system/Patient.zz")


def sent(secured: Server, route: Route, headers: dict[str, str]) -> tuple[int, str]:
    values = {
        "{type}": "Patient",
        "{id}": "canary",
        "{version}": "1",
        "{operation}": "$anonymize",
        "{compartment}": "Observation",
        "{search}": "_search",
    }
    if route.pattern.endswith("{version}/{operation}"):
        values["{operation}"] = "$meta"
    url = "/fhir/" + "/".join(values.get(part, part) for part in route.pattern.split("/"))
    content = b""
    if route.body != "none":
        headers = {"content-type": "application/fhir+json"} | headers
        content = b'{"resourceType":"Patient","id":"canary"}'
    if route.body == "content":
        content = b'{"resourceType":"Binary","id":"canary","contentType":"text/plain"}'
    if route.body == "form":
        headers = headers | {"content-type": "application/x-www-form-urlencoded"}
        content = b"name=canary"
    if route.pattern == "":
        content = (
            b'{"resourceType":"Bundle","type":"transaction","entry":'
            b'[{"request":{"method":"GET","url":"Patient/canary"}}]}'
        )
    answer = secured.send(route.method, url, headers=headers, content=content)
    if answer.status_code >= 400:
        issue(answer)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
    return answer.status_code, answer.text


@pytest.mark.parametrize("name", TOKENS)
def test_every_route_denies(secured: Server, name: str) -> None:
    """C16, C17: also a token for another face of the domain."""
    planted(secured)
    headers = authorization(secured, name)
    for route in ROUTES:
        status, text = sent(secured, route, headers)
        assert CANARY not in text, route
        if route.public:
            assert status == 200, route
        elif name in UNKNOWN:
            assert status == 401, (route, status)
        elif name == "user without relationship":
            # It may ask, and finds nothing of the canary.
            assert status in (200, 201, 204, 400, 403, 404, 405, 412, 501), (route, status)
        elif name == "other type" and route.pattern == "{operation}":
            # De-identifies what the caller brings; nothing stored is touched.
            assert status in (200, 405), (route, status)
        elif name == "other type" and route.interaction in ("history-system", "search-system"):
            # Of the types that it may see: none of them has any.
            assert status == 200, (route, status)
        elif route.interaction == "jobs":
            # Everybody may ask for the jobs of their own.
            assert status == 200 and '"total":0' in text, (route, status)
        else:
            # A write to what is hidden and a search of nothing are refused, or are as if
            # the canary had never been.
            assert status in (403, 404, 501), (route, status)
    headers = secured.bearer("system/*.rs")
    assert secured.get("Patient/canary", headers=headers).json()["meta"]["versionId"] == "1"


def test_public_routes_are_these() -> None:
    assert {(route.method, route.pattern) for route in ROUTES if route.public} == PUBLIC


def test_unknown_urls_need_a_token_too(secured: Server) -> None:
    for url in ("Nothing", "Patient/a_b", "Patient/a/b/c/d"):
        assert secured.get(url).status_code == 401
        assert secured.get(url, headers=secured.bearer("system/*.rs")).status_code in (400, 404)


def test_patient_scope_sees_its_patient_alone(secured: Server) -> None:
    planted(secured)
    system = secured.bearer("system/*.cruds")
    body = {"resourceType": "Patient", "id": "mine", "name": [{"family": "Mine"}]}
    secured.put("Patient/mine", body, headers=system)
    headers = secured.bearer("patient/*.cruds", patient="mine")
    assert secured.get("Patient/mine", headers=headers).status_code == 200
    hidden = secured.get("Patient/canary", headers=headers)
    absent = secured.get("Patient/nobody", headers=headers)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("canary", "nobody") == absent.text
    assert secured.get("Patient", headers=headers).json()["total"] == 1
    assert secured.delete("Patient/canary", headers=headers).status_code == 204
    assert secured.get("Patient/canary", headers=system).status_code == 200
    for id_ in ("canary", "nobody"):
        put = secured.put(f"Patient/{id_}", body | {"id": id_}, headers=headers)
        assert put.status_code == 405
