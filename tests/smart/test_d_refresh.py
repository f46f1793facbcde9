"""checks D: refreshing and revoking."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from fhir_server.auth.administration import Administration
from tests.serving import Server
from tests.smart.flow import (
    AUTH,
    FORM,
    App,
    Browser,
    Json,
    bearer,
    forms,
    ledger_ahead,
    tokens_for,
)

SCOPE = "launch/patient patient/Observation.rs patient/Patient.rs offline_access"


def begun(server: Server, scope: str = SCOPE) -> tuple[App, Json]:
    app = App(server)
    return app, tokens_for(app, scope)


def works(server: Server, tokens: Json) -> bool:
    status = server.get("Patient/a", headers=bearer(tokens)).status_code
    assert status in (200, 401)
    return status == 200


def later(server: Server, seconds: float) -> None:
    """The clock of everything about identities, and of the ledger, moves on."""
    records = server.domain.identities.records
    before = records.now
    records.now = lambda: before() + seconds
    ledger_ahead(server, lambda: seconds)


def test_d01_to_d03(lasting: Server) -> None:
    app, tokens = begun(lasting)
    fresh = app.refresh(tokens["refresh_token"])
    assert fresh.status_code == 200 and fresh.headers["cache-control"] == "no-store"
    body = fresh.json()
    assert body["scope"] == SCOPE and body["patient"] == "a"
    assert body["refresh_token"] != tokens["refresh_token"]
    assert works(lasting, body) and works(lasting, tokens)
    less = app.refresh(body["refresh_token"], scope="patient/Observation.rs").json()
    assert less["scope"] == "patient/Observation.rs"
    assert lasting.get("Patient/a", headers=bearer(less)).status_code == 403
    for more in ("patient/*.rs", "patient/Observation.cruds", "user/Patient.rs", "openid", "x"):
        answer = app.refresh(less["refresh_token"], scope=more)
        assert answer.status_code == 400 and answer.json()["error"] == "invalid_scope", more
    back = app.refresh(less["refresh_token"]).json()
    assert back["scope"] == SCOPE


def test_d04_others_refresh_tokens(clinic: Server) -> None:
    app, tokens = begun(clinic)
    for bad in ("BAD", "a.b", ".", "x" * 5000):
        assert app.refresh(bad).json()["error"] == "invalid_grant"
    other = App(clinic, "keeper", secret="a secret of the keeper 123")
    assert other.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert works(clinic, tokens)
    assert app.refresh(tokens["refresh_token"]).status_code == 200


def test_a_public_app_may_leave_out_its_name(clinic: Server) -> None:
    """Stock npm fhirclient does; a client with a secret may not."""
    _, tokens = begun(clinic)
    body = urlencode({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})
    answer = clinic.send("POST", f"{AUTH}/token", content=body, headers=FORM)
    assert answer.status_code == 200
    keeper = App(clinic, "keeper", secret="a secret of the keeper 123")
    kept = tokens_for(keeper, SCOPE)
    body = urlencode({"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]})
    assert clinic.send("POST", f"{AUTH}/token", content=body, headers=FORM).status_code == 401


def test_d05_reuse_ends_everything(lasting: Server) -> None:
    app, first = begun(lasting)
    second = app.refresh(first["refresh_token"]).json()
    again = app.refresh(first["refresh_token"])
    assert again.json()["refresh_token"] == second["refresh_token"]
    assert again.json()["access_token"] == second["access_token"]
    later(lasting, 11)
    reuse = app.refresh(first["refresh_token"])
    assert reuse.status_code == 400 and reuse.json()["error"] == "invalid_grant"
    assert not works(lasting, second) and not works(lasting, first)
    assert app.refresh(second["refresh_token"]).status_code == 400


def test_d05_another_request_in_the_grace_is_a_reuse(clinic: Server) -> None:
    app, first = begun(clinic)
    second = app.refresh(first["refresh_token"]).json()
    other = app.refresh(first["refresh_token"], scope="patient/Patient.rs")
    assert other.json()["error"] == "invalid_grant"
    assert not works(clinic, second)


def test_d06_two_at_once_get_one_successor(lasting: Server) -> None:
    app, tokens = begun(lasting)
    body = urlencode(
        {
            "grant_type": "refresh_token",
            "refresh_token": tokens["refresh_token"],
            "client_id": "app",
        }
    )
    request = ("POST", f"{AUTH}/token", {"content": body, "headers": FORM})
    answers = [answer.json() for answer in lasting.send_all([request] * 6)]
    assert len({answer["refresh_token"] for answer in answers}) == 1
    assert works(lasting, answers[0])
    assert app.refresh(answers[0]["refresh_token"]).status_code == 200


def test_d07_online_ends_with_the_session_and_offline_does_not(clinic: Server) -> None:
    app, browser = App(clinic), Browser(clinic)
    online = tokens_for(app, "patient/*.rs online_access", browser)
    offline = tokens_for(app, "patient/*.rs offline_access", browser)
    assert works(clinic, online)
    page = browser.get("logout")
    browser.submit(page)
    # "The access ends when you sign out", says the page: at once.
    assert not works(clinic, online) and works(clinic, offline)
    assert app.refresh(online["refresh_token"]).json()["error"] == "invalid_grant"
    fresh = app.refresh(offline["refresh_token"]).json()
    later(clinic, 92 * 86_400)
    clinic.relation("doc", "a", 10_000_000)
    assert app.refresh(fresh["refresh_token"]).status_code == 200


def test_d08_d09_revocation(lasting: Server) -> None:
    app, tokens = begun(lasting)
    _, other = begun(lasting)
    access = app.post("revoke", token=tokens["access_token"])
    assert access.status_code == 200 and not works(lasting, tokens)
    fresh = app.refresh(tokens["refresh_token"]).json()
    assert works(lasting, fresh)
    assert app.post("revoke", token=fresh["refresh_token"]).status_code == 200
    assert not works(lasting, fresh)
    assert app.refresh(fresh["refresh_token"]).status_code == 400
    keeper = App(lasting, "keeper", secret="a secret of the keeper 123")
    for token in ("unknown", other["access_token"], other["refresh_token"]):
        assert keeper.post("revoke", token=token).status_code == 200
    assert works(lasting, other) and app.refresh(other["refresh_token"]).status_code == 200
    nobody = {"token": other["access_token"]}
    answer = lasting.send("POST", f"{AUTH}/revoke", content=urlencode(nobody), headers=FORM)
    assert answer.status_code == 401


def test_d10_whatever_takes_access_away_acts_at_once(clinic: Server) -> None:
    identities = clinic.domain.identities
    app, tokens = begun(clinic)
    assert works(clinic, tokens)
    clinic.run(identities.users.change("doc", disabled=True))
    assert not works(clinic, tokens)
    assert app.refresh(tokens["refresh_token"]).status_code == 400
    clinic.run(identities.users.change("doc", disabled=False))

    app, tokens = begun(clinic)
    assert works(clinic, tokens)
    clinic.run(identities.clients.change("app", disabled=True))
    assert not works(clinic, tokens)
    assert app.refresh(tokens["refresh_token"]).status_code == 401
    clinic.run(identities.clients.change("app", disabled=False))

    app, tokens = begun(clinic)
    clinic.run(identities.relations.end("doc", "a"))
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 404
    clinic.relation("doc", "a")

    app, tokens = begun(clinic)
    clinic.run(identities.users.change("doc", role="researcher"))
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 403
    clinic.run(identities.users.change("doc", role="family-doctor"))


def test_d10_another_role_has_allowed_nothing_yet(clinic: Server) -> None:
    app, tokens = begun(clinic)
    acts = Administration(clinic.domain.identities)
    clinic.run(acts.change_user("doc", role="family-doctor"))
    assert works(clinic, tokens)
    clinic.run(acts.change_user("doc", role="researcher"))
    assert not works(clinic, tokens)
    clinic.run(acts.change_user("doc", role="family-doctor"))
    assert not works(clinic, tokens)
    assert app.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_d10_one_click_on_the_page_of_apps(clinic: Server) -> None:
    app, browser = App(clinic), Browser(clinic)
    tokens = tokens_for(app, SCOPE, browser)
    page = browser.get("apps")
    assert "Growth &lt;Chart&gt;" in page.text and "Family-a" in page.text
    (approval,) = forms(page)[-1].values("approval")
    pat = Browser(clinic)
    page_of_pat = pat.sign_in(pat.get("apps"), "pat")
    assert "Growth" not in page_of_pat.text
    csrf = pat.post("apps/withdraw", [("approval", approval), ("csrf", "x")])
    assert csrf.status_code == 403 and works(clinic, tokens)
    after = browser.submit(page, ("approval", approval))
    assert after.status_code == 200 and "No app has access" in after.text
    assert not works(clinic, tokens)
    assert app.refresh(tokens["refresh_token"]).status_code == 400


@pytest.mark.parametrize("more", ["", " online_access"])
def test_d10_an_app_is_listed_as_long_as_its_token_lasts(clinic: Server, more: str) -> None:
    """The web session in which it was allowed has ended, unused; its access token has not."""
    tokens = tokens_for(App(clinic), f"launch/patient patient/*.rs{more}")
    later(clinic, 16 * 60)
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 200
    browser = Browser(clinic)
    page = browser.sign_in(browser.get("apps"), "doc")
    (approval,) = forms(page)[-1].values("approval")
    browser.submit(page, ("approval", approval))
    assert clinic.get("Patient/a", headers=bearer(tokens)).status_code == 401
