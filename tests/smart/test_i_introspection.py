"""checks I: introspection."""

from __future__ import annotations

import time

from tests.serving import Server
from tests.smart.flow import AUTH, FHIR, FORM, App, bearer, tokens_for

SCOPE = "openid fhirUser launch/patient patient/*.rs offline_access"
SECRET = "a secret of the keeper 123"
INACTIVE = {"active": False}


def test_i01_an_active_token(lasting: Server) -> None:
    app = App(lasting, "keeper", secret=SECRET)
    tokens = tokens_for(app, SCOPE)
    answer = app.post("introspect", token=tokens["access_token"])
    found = answer.json()
    assert answer.status_code == 200 and found["active"] is True
    assert found["client_id"] == "keeper"
    assert set(found["scope"].split()) == set(tokens["scope"].split())
    assert time.time() <= found["exp"] <= time.time() + tokens["expires_in"] + 2
    assert found["patient"] == tokens["patient"] and found["iss"] == AUTH
    assert found["fhirUser"] == f"{FHIR}/Practitioner/d"
    userinfo = lasting.get(f"{AUTH}/userinfo", headers=bearer(tokens)).json()
    assert found["sub"] == userinfo["sub"]


def test_i02_everything_else_is_inactive_and_no_more(clinic: Server) -> None:
    app = App(clinic, "keeper", secret=SECRET)
    tokens = tokens_for(app, SCOPE)
    fresh = app.refresh(tokens["refresh_token"]).json()
    assert app.post("introspect", token=fresh["refresh_token"]).json()["active"] is True
    foreign = tokens_for(App(clinic), SCOPE)
    for token in ("unknown", tokens["refresh_token"], foreign["access_token"], "a.b"):
        assert app.post("introspect", token=token).json() == INACTIVE
    app.post("revoke", token=fresh["access_token"])
    assert app.post("introspect", token=fresh["access_token"]).json() == INACTIVE
    expired = clinic.token("system/*.rs", minutes=-1, client="keeper")
    assert app.post("introspect", token=expired).json() == INACTIVE
    clinic.run(clinic.domain.identities.users.change("doc", disabled=True))
    assert app.post("introspect", token=tokens["access_token"]).json() == INACTIVE
    assert app.post("introspect", token="").status_code == 400


def test_i03_who_may_ask(clinic: Server) -> None:
    token = tokens_for(App(clinic), SCOPE)["access_token"]
    assert App(clinic).post("introspect", token=token).status_code == 401
    nobody = App(clinic).post("introspect", headers=FORM, token=token)
    assert nobody.status_code == 401
    clinic.client("auditor", secret="0123456789abcdef", scope="introspection")
    auditor = App(clinic, "auditor", secret="0123456789abcdef")
    assert auditor.post("introspect", token=token).json()["patient"] == "a"
    headers = {**FORM, **clinic.bearer("introspection", client="auditor")}
    assert App(clinic).post("introspect", headers=headers, token=token).json()["active"]
    other = {**FORM, **clinic.bearer("system/*.rs", client="else")}
    assert App(clinic).post("introspect", headers=other, token=token).json() == INACTIVE
    bad = {**FORM, "authorization": "Bearer x"}
    assert App(clinic).post("introspect", headers=bad, token=token).status_code == 401
