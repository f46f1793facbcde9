"""The second factor of a login."""

from __future__ import annotations

import pytest

from fhir_server.auth import totp
from tests.serving import Server, served
from tests.smart.conftest import people
from tests.smart.flow import (
    SCOPE,
    WORD,
    App,
    Browser,
    approve,
    forms,
    parameters,
)


@pytest.fixture
def factored(clinic: Server) -> tuple[Server, str]:
    key = totp.new_key()
    clinic.run(clinic.domain.identities.users.change("doc", totp=key))
    return clinic, key


def code(server: Server, key: str, ahead: int = 0) -> str:
    return totp.code_at(key, int(server.domain.identities.records.now()) // 30 + ahead)


def test_second_factor(factored: tuple[Server, str]) -> None:
    server, key = factored
    app, browser = App(server), Browser(server)
    page = browser.sign_in(browser.get(app.authorize(SCOPE)), "doc")
    assert 'name="otp"' in page.text and "vehr-session" not in browser.cookies
    wrong = browser.submit(page, ("otp", "000000"))
    assert wrong.status_code == 401 and 'name="otp"' in wrong.text
    right = code(server, key)
    done = browser.submit(wrong, ("otp", right))
    assert "vehr-session" in browser.cookies
    assert app.redeem(parameters(approve(browser, done))["code"]).status_code == 200
    second = Browser(server)
    again = second.sign_in(second.get("apps"), "doc")
    assert second.submit(again, ("otp", right)).status_code == 401
    assert "vehr-session" not in second.cookies
    both = Browser(server)
    page = both.get("apps")
    fields = (("username", "doc"), ("password", WORD), ("otp", code(server, key, 1)))
    assert "Apps with access" in both.submit(page, *fields).text


def test_the_second_page_is_for_the_browser_that_gave_the_password(
    factored: tuple[Server, str],
) -> None:
    server, key = factored
    first, thief = Browser(server), Browser(server)
    page = first.sign_in(first.get("apps"), "doc")
    url = str(page.url)
    stolen = thief.get(url)
    assert 'name="otp"' not in stolen.text and 'name="password"' in stolen.text
    hidden = dict(forms(page)[0].hidden())
    own = dict(forms(stolen)[0].hidden())
    answer = thief.post(
        "login",
        [("request", hidden["request"]), ("csrf", own["csrf"]), ("otp", code(server, key))],
    )
    assert answer.status_code == 401 and "vehr-session" not in thief.cookies


def test_codes_cannot_be_guessed_by_starting_over(factored: tuple[Server, str]) -> None:
    server, _ = factored
    statuses = []
    for _n in range(6):
        browser = Browser(server)
        page = browser.sign_in(browser.get("apps"), "doc")
        if page.status_code == 429:
            statuses.append(429)
            continue
        statuses.append(browser.submit(page, ("otp", "000000")).status_code)
    assert 429 in statuses and statuses[-1] == 429


def test_clinicians_may_be_made_to_have_one(tmp_path: object) -> None:
    with served(  # type: ignore[arg-type]
        "memory", tmp_path, open_=False, second_factor="required"
    ) as server:
        people(server)
        doc, pat = Browser(server), Browser(server)
        assert 'name="enrol"' in doc.sign_in(doc.get("apps"), "doc").text
        assert "vehr-session" not in doc.cookies
        assert "Apps with access" in pat.sign_in(pat.get("apps"), "pat").text
