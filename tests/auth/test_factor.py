"""The second factor: enrolment at the first login that needs it, recovery codes, replacement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fhir_server.auth import totp
from tests.serving import Server, served
from tests.smart.conftest import people
from tests.smart.flow import AUTH, WORD, Browser, forms


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Server]:
    """Clinicians and administrators need a second factor."""
    with served("memory", tmp_path, open_=False, second_factor="required") as server:
        yield people(server)


def now_of(server: Server, seconds: float = 0) -> float:
    return server.domain.identities.records.now() + seconds


def shown_key(page: httpx.Response) -> str:
    found = re.search(r'<code class="key">([A-Z2-7 ]+)</code>', page.text)
    assert found is not None, page.text
    return found[1].replace(" ", "")


def code(server: Server, key: str, ahead: int = 0) -> str:
    return totp.code_at(key, int(now_of(server)) // 30 + ahead)


def shown_codes(page: httpx.Response) -> list[str]:
    return re.findall(r"<li><code>([a-z2-7-]{19})</code></li>", page.text)


def enrolled(server: Server, browser: Browser) -> tuple[str, list[str]]:
    page = browser.sign_in(browser.get(AUTH), "doc")
    key = shown_key(page)
    done = browser.submit(page, ("otp", code(server, key)))
    assert done.status_code == 200, done.text
    codes = shown_codes(done)
    assert len(codes) == 8
    return key, codes


def test_a_clinician_enrols_at_the_first_login(strict: Server) -> None:
    browser = Browser(strict)
    page = browser.sign_in(browser.get(AUTH), "doc")
    assert "<svg" in page.text and "http" not in re.sub(r'xmlns="[^"]+"', "", page.text)
    assert "vehr-session" not in browser.cookies
    wrong = browser.submit(page, ("otp", "000000"))
    # The user's app holds the key already: what was mistyped is typed again.
    assert wrong.status_code == 401 and shown_key(wrong) == shown_key(page)
    done = browser.submit(wrong, ("otp", code(strict, shown_key(wrong))))
    assert len(shown_codes(done)) == 8 and "vehr-session" in browser.cookies
    onward = re.search(r'class="button" href="([^"]+)"', done.text)
    assert onward is not None and "doc" in browser.get(onward[1]).text
    again = Browser(strict)
    second = again.sign_in(again.get(AUTH), "doc")
    assert 'name="otp"' in second.text and "<svg" not in second.text


def test_a_patient_needs_none(strict: Server) -> None:
    browser = Browser(strict)
    assert "pat" in browser.sign_in(browser.get(AUTH), "pat").text
    assert "vehr-session" in browser.cookies


def test_a_recovery_code_lets_in_once(strict: Server) -> None:
    _, codes = enrolled(strict, Browser(strict))
    browser = Browser(strict)
    page = browser.sign_in(browser.get(AUTH), "doc")
    spaced = codes[0].upper().replace("-", " ")
    assert "vehr-session" not in browser.cookies
    browser.submit(page, ("otp", spaced))
    assert "vehr-session" in browser.cookies
    other = Browser(strict)
    page = other.sign_in(other.get(AUTH), "doc")
    assert other.submit(page, ("otp", codes[0])).status_code == 401
    assert "7" in browser.get("factor").text
    stored = strict.run(strict.domain.identities.users.named("doc"))
    assert len(stored.recovery) == 7 and not set(codes) & set(stored.recovery)


def test_the_key_of_another_browser_or_user_enrols_nobody(strict: Server) -> None:
    strict.user("eve", "nurse", "Practitioner/e", WORD)
    eve, doc = Browser(strict), Browser(strict)
    mine = eve.sign_in(eve.get(AUTH), "eve")
    theirs = doc.sign_in(doc.get(AUTH), "doc")
    form = forms(theirs)[-1]
    hidden = dict(form.hidden()) | {"enrol": dict(forms(mine)[-1].hidden())["enrol"]}
    fields = [*hidden.items(), ("otp", code(strict, shown_key(mine)))]
    assert doc.post(form.action, fields).status_code == 401
    assert strict.run(strict.domain.identities.users.named("doc")).totp == ""
    late = [*form.hidden(), ("otp", code(strict, shown_key(theirs)))]
    records = strict.domain.identities.records
    then, records.now = records.now(), lambda: then + 1000
    assert doc.post(form.action, late).status_code == 400


def test_enrolment_needs_the_password_first(strict: Server) -> None:
    """A factor cannot be planted on somebody by who has not passed the first step."""
    eve = Browser(strict)
    login = eve.get(AUTH)
    answer = eve.submit(login, ("username", "doc"), ("password", "wrong"), ("otp", "123456"))
    assert answer.status_code == 401 and "<svg" not in answer.text
    assert eve.get("factor").status_code == 200 and "<svg" not in eve.get("factor").text


def test_who_may_go_without_can_add_and_remove_it(clinic: Server) -> None:
    browser = Browser(clinic)
    assert "pat" in browser.sign_in(browser.get(AUTH), "pat").text
    page = browser.get("factor")
    key = shown_key(page)
    assert len(shown_codes(browser.submit(page, ("otp", code(clinic, key))))) == 8
    page = browser.get("factor")
    assert browser.submit(page, ("otp", "000000"), ("act", "remove")).status_code == 401
    fresh = browser.submit(page, ("otp", code(clinic, key, 1)), ("act", "codes"))
    codes = shown_codes(fresh)
    assert len(codes) == 8
    gone = browser.submit(page, ("otp", codes[0]), ("act", "remove"))
    assert gone.status_code == 200
    user = clinic.run(clinic.domain.identities.users.named("pat"))
    assert (user.totp, user.recovery) == ("", ())


def test_a_new_key_has_codes_of_its_own(clinic: Server) -> None:
    """Who removes the factor and enrols again at once is not told that the code was used."""
    records = clinic.domain.identities.records
    then = records.now()
    records.now = lambda: then
    browser = Browser(clinic)
    browser.sign_in(browser.get(AUTH), "pat")
    for _ in range(2):
        page = browser.get("factor")
        codes = shown_codes(browser.submit(page, ("otp", code(clinic, shown_key(page)))))
        assert len(codes) == 8
        page = browser.get("factor")
        assert browser.submit(page, ("otp", codes[0]), ("act", "remove")).status_code == 200


def test_who_needs_it_cannot_remove_it(strict: Server) -> None:
    browser = Browser(strict)
    _, codes = enrolled(strict, browser)
    page = browser.get("factor")
    assert 'value="remove"' not in page.text
    assert browser.submit(page, ("otp", codes[0]), ("act", "remove")).status_code == 400


def test_changes_need_the_csrf_token_and_are_throttled(strict: Server) -> None:
    browser = Browser(strict)
    enrolled(strict, browser)
    page = browser.get("factor")
    assert browser.post(f"{AUTH}/factor", [("otp", "1"), ("act", "codes")]).status_code == 403
    found = {
        browser.submit(page, ("otp", "000000"), ("act", "codes")).status_code for _ in range(9)
    }
    assert 429 in found
