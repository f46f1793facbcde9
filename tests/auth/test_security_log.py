"""What happens to those who come in is told to the security log, without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path

import pytest

import fhir_server.app as composition
from fhir_server.auth.ports import SecurityEvent
from fhir_server.model.problem import Unavailable
from tests.serving import Server, served
from tests.smart.conftest import people
from tests.smart.flow import AUTH, App, Browser, code_for, forms, tokens_for

SCOPE = "openid launch/patient patient/*.rs offline_access"


class Kept:
    """A log that can be looked at, and that can fail."""

    def __init__(self) -> None:
        self.events: list[SecurityEvent] = []
        self.fails = False

    async def record(self, event: SecurityEvent) -> None:
        if self.fails:
            raise Unavailable("nothing can be recorded")
        self.events.append(event)

    def last(self) -> tuple[str, str, str, str, str]:
        e = self.events[-1]
        return e.what, e.outcome, e.user, e.client, e.reason


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """What the servers of a test record."""
    made = Kept()
    site = composition.authorization_server

    def told(identities, *rest):  # type: ignore[no-untyped-def]
        return site(replace(identities, log=made), *rest)

    monkeypatch.setattr(composition, "authorization_server", told)
    return made


@pytest.fixture
def watched(tmp_path: Path, kept: Kept) -> Iterator[tuple[Server, Kept]]:
    with served("memory", tmp_path, open_=False) as server:
        yield people(server), kept


def test_a_way_in_and_out_is_told(watched: tuple[Server, Kept]) -> None:
    server, kept = watched
    app, browser = App(server), Browser(server)
    tokens = tokens_for(app, SCOPE, browser)
    refreshed = app.refresh(tokens["refresh_token"]).json()
    assert app.post("revoke", token=refreshed["refresh_token"]).status_code == 200
    page = browser.get("logout")
    assert browser.submit(page).status_code == 200
    told = [(e.what, e.outcome, e.user, e.client, e.patient) for e in kept.events]
    assert told == [
        ("login", "success", "doc", "", ""),
        ("authorize", "success", "doc", "app", "a"),
        ("token", "success", "doc", "app", "a"),
        ("refresh", "success", "doc", "app", "a"),
        ("revoke", "success", "doc", "app", ""),
        ("logout", "success", "doc", "", ""),
    ]
    assert all(e.request for e in kept.events)
    secret = {tokens["access_token"], tokens["refresh_token"], app.verifier}
    assert not any(s in str(astuple(e)) for e in kept.events for s in secret)


def test_what_is_refused_is_told(watched: tuple[Server, Kept]) -> None:
    server, kept = watched
    app, browser = App(server), Browser(server)
    login = browser.get(app.authorize(SCOPE))
    assert browser.sign_in(login, "doc", "wrong wrong wrong").status_code == 401
    assert kept.last() == ("login", "refused", "doc", "", "login-wrong")
    assert browser.sign_in(login, "a-password-in-the-wrong-field").status_code == 401
    assert kept.last() == ("login", "refused", "", "", "login-wrong")
    for _ in range(8):
        answer = browser.sign_in(login, "doc", "wrong wrong wrong")
    assert answer.status_code == 429 and kept.last()[:2] == ("lockout", "refused")
    browser.get(app.authorize(SCOPE, redirect_uri="https://evil.example.org/"))
    assert kept.last() == ("authorize", "refused", "", "app", "bad-redirect")
    assert app.redeem("BAD_CODE").status_code == 400
    assert kept.last() == ("token", "refused", "", "app", "invalid_grant")
    launch = server.send(
        "POST", f"{AUTH}/launch", json={}, headers={"content-type": "application/json"}
    )
    assert launch.status_code == 401 and kept.last()[:2] == ("launch", "refused")
    pat = Browser(server)
    page = pat.sign_in(pat.get(app.authorize(SCOPE)), "pat")
    pat.submit(page, *[("scope", v) for v in forms(page)[-1].values("scope")], ("decision", "deny"))
    assert kept.last() == ("authorize", "refused", "pat", "app", "access_denied")


def test_who_is_not_known_and_administers_is_told(watched: tuple[Server, Kept]) -> None:
    server, kept = watched
    for headers in ({}, {"authorization": "Bearer guessed"}, {"authorization": "Basic YTpi"}):
        answer = server.send("GET", "/auth/admin/users", headers=headers)
        assert answer.status_code == 401
        assert kept.last() == ("admin", "refused", "", "", "invalid_token")
        assert kept.events[-1].target == "admin/users" and kept.events[-1].address
    system = server.bearer("system/*.rs", client="service")
    assert server.send("GET", "/auth/admin/users", headers=system).status_code == 403
    assert kept.last() == ("admin", "refused", "", "", "insufficient_scope")


def test_what_cannot_be_recorded_is_refused(watched: tuple[Server, Kept]) -> None:
    server, kept = watched
    app, browser = App(server), Browser(server)
    code = code_for(app, SCOPE, browser)
    kept.fails = True
    answer = app.redeem(code)
    assert answer.status_code == 503 and "access_token" not in answer.text
    other = Browser(server)
    page = other.sign_in(other.get(app.authorize(SCOPE)), "doc")
    assert page.status_code == 503 and "vehr-session" not in other.cookies


def test_t19_forged_addresses_are_not_recorded(tmp_path: Path, kept: Kept) -> None:
    """Throttles and the log go by the address that is known, not by what a client says."""
    for proxies, address in (((), "127.0.0.1"), (("127.0.0.0/8",), "198.51.100.7")):
        with served("memory", tmp_path, open_=False, proxies=proxies) as server:
            browser = Browser(server)
            browser.headers["x-forwarded-for"] = "203.0.113.1, 198.51.100.7"
            browser.sign_in(browser.get(AUTH), "nobody")
            assert kept.events[-1].address == address
