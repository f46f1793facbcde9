"""The pages: what T02, T16 and T20 try, and what a person meets."""

from __future__ import annotations

import re

import pytest

from fhir_server.auth.records import digest
from fhir_server.auth.routes import ENDPOINTS, Endpoint
from tests.serving import Server, served
from tests.smart.flow import (
    AUTH,
    BACK,
    FHIR,
    FORM,
    ROOT,
    SCOPE,
    WORD,
    App,
    Browser,
    approve,
    bearer,
    code_for,
    forms,
    ledger_ahead,
    parameters,
    tokens_for,
)


def test_what_every_page_says_in_its_headers(clinic: Server) -> None:
    """B18, T16: no framing, no scripts, no referrer, no keeping."""
    browser = Browser(clinic)
    login = browser.get(App(clinic).authorize(SCOPE))
    picker = browser.sign_in(login, "doc")
    consent = browser.submit(picker, ("patient", "a"))
    pages = [login, picker, consent, browser.get(""), browser.get("apps"), browser.get("logout")]
    pages.append(browser.get("continue?request=x"))
    for page in pages:
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy and "form-action 'self'" in policy
        assert "unsafe" not in policy and "script-src" not in policy
        assert "<script" not in page.text and " style=" not in page.text
        assert not re.search(r"(src|href|action)=\"(https?:)?//", page.text)
    assert (
        "form-action 'self' https://app.example.org" in consent.headers["content-security-policy"]
    )


def test_cookies(clinic: Server, tmp_path: object) -> None:
    browser = Browser(clinic)
    page = browser.get(App(clinic).authorize(SCOPE))
    (form,) = page.headers.get_list("set-cookie")
    before = dict(browser.cookies)
    answer = browser.once("POST", "login", headers=FORM, content=_login(page, "doc"))
    (session,) = answer.headers.get_list("set-cookie")
    for cookie in (form, session):
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie
        assert "Secure" not in cookie
    assert "vehr-session" in browser.cookies and "vehr-session" not in before
    with served(  # type: ignore[arg-type]
        "memory", tmp_path, open_=False, base_url="https://ehr.example.org"
    ) as server:
        headers = {"host": "ehr.example.org"}
        step = server.get(f"{AUTH}/apps", headers=headers).headers["location"]
        page = server.get(ROOT + step, headers=headers)
        (form,) = page.headers.get_list("set-cookie")
        assert form.startswith("__Host-vehr-form=") and "; Secure" in form


def _login(page: object, user: str, word: str = WORD) -> str:
    from urllib.parse import urlencode

    (form,) = forms(page)  # type: ignore[arg-type]
    return urlencode([*form.hidden(), ("username", user), ("password", word)])


def test_a_session_that_was_there_before_the_login_is_not_used(clinic: Server) -> None:
    browser = Browser(clinic)
    browser.cookies["vehr-session"] = "planted-by-somebody-else"
    page = browser.sign_in(browser.get(App(clinic).authorize(SCOPE)), "doc")
    assert page.status_code == 200 and browser.cookies["vehr-session"] != "planted-by-somebody-else"
    second = Browser(clinic)
    second.cookies["vehr-session"] = "planted-by-somebody-else"
    assert 'name="password"' in second.get("apps").text


def test_forms_of_other_browsers_and_pages_are_refused(clinic: Server) -> None:
    """CSRF: no token, the token of another browser, of before the login, without the cookie."""
    victim, attacker = Browser(clinic), Browser(clinic)
    url = App(clinic).authorize(SCOPE)
    page = victim.get(url)
    other = attacker.get(url)
    stolen = dict(forms(other)[0].hidden())
    own = dict(forms(page)[0].hidden())
    for csrf in ("", "x", stolen["csrf"]):
        answer = victim.post(
            "login",
            [("request", own["request"]), ("csrf", csrf), ("username", "doc"), ("password", WORD)],
        )
        assert answer.status_code == 403 and "vehr-session" not in victim.cookies
    picker = victim.sign_in(page, "doc")
    old = [("request", dict(forms(picker)[-1].hidden())["request"]), ("csrf", own["csrf"])]
    assert victim.post("patient", [*old, ("patient", "a")]).status_code == 403
    consent = victim.submit(picker, ("patient", "a"))
    good = forms(consent)[-1].hidden()
    answer = victim.post("consent", [("request", dict(good)["request"]), ("decision", "approve")])
    assert answer.status_code == 403 and "location" not in answer.headers
    without = Browser(clinic)
    refused = without.post("consent", [*good, ("scope", "patient/*.rs"), ("decision", "approve")])
    assert refused.status_code == 403
    for path in ("logout", "apps/withdraw"):
        assert victim.post(path, [("approval", "x")]).status_code == 403


@pytest.mark.parametrize("sealed", ["", "x", "A" * 400, "%00", "ї", "=" * 10, "e" * 9000])
def test_a_request_that_was_not_sealed_here(clinic: Server, sealed: str) -> None:
    browser = Browser(clinic)
    browser.sign_in(browser.get("apps"), "doc")
    answer = browser.get(f"continue?request={sealed}")
    assert answer.status_code == 400 and "location" not in answer.headers
    assert browser.post("patient", [("request", sealed), ("patient", "a")]).status_code in (
        400,
        403,
    )


def test_no_page_leads_anywhere_else(clinic: Server) -> None:
    """T16: there is no parameter that names where to go after signing in or out."""
    for query in (
        "next=//evil.example",
        "return=https://evil.example",
        "redirect_uri=https://e.x/",
    ):
        browser = Browser(clinic)
        for path in ("apps", "", "logout", "continue"):
            answer = browser.once("GET", f"{path}?{query}")
            assert "evil" not in answer.headers.get("location", "")
            assert "e.x" not in answer.headers.get("location", "")
    browser = Browser(clinic)
    page = browser.sign_in(browser.get("apps"), "doc")
    assert "Apps with access" in page.text


def test_names_cannot_be_found_out(clinic: Server) -> None:
    """T02: unknown, disabled and wrong look the same."""
    clinic.user("gone", "nurse", password=WORD)
    clinic.run(clinic.domain.identities.users.change("gone", disabled=True))
    seen = set()
    for user, word in (("doc", "wrong password"), ("nobody", WORD), ("gone", WORD), ("a\x00", "x")):
        browser = Browser(clinic)
        answer = browser.sign_in(browser.get("apps"), user, word)
        text = re.sub(r'value="[^"]*"', "", answer.text)
        seen.add((answer.status_code, re.sub(r'href="[^"]*"', "", text)))
    assert len(seen) == 1 and next(iter(seen))[0] == 401


def test_guessing_is_slowed_down_for_every_name(clinic: Server) -> None:
    for user in ("doc", "nobody"):
        statuses = []
        for n in range(7):
            browser = Browser(clinic)
            answer = browser.sign_in(browser.get("apps"), user, f"guess number {n}")
            statuses.append(answer.status_code)
        assert statuses == [401] * 5 + [429] * 2, user
        assert int(answer.headers["retry-after"]) > 0
    browser = Browser(clinic)
    assert browser.sign_in(browser.get("apps"), "doc").status_code == 429
    pat = Browser(clinic)
    assert pat.sign_in(pat.get("apps"), "pat").status_code == 200


def test_an_account_of_ones_own_gives_no_more_guesses(clinic: Server) -> None:
    """T02: who signs in between guesses at others is stopped all the same; who only signs in is
    not, from however many desks behind one address.
    """
    throttle = clinic.domain.identities.throttle

    def counted() -> int:
        row = clinic.run(throttle._records.get("throttle", digest("address/127.0.0.1")))
        return 0 if row is None else int(row.value["count"])

    for user in ("one", "two", "three"):
        browser = Browser(clinic)
        browser.sign_in(browser.get("apps"), user, "a guess")
        own = Browser(clinic)
        assert own.sign_in(own.get("apps"), "pat").status_code == 200
    assert counted() == 3
    for _ in range(4):
        own = Browser(clinic)
        own.sign_in(own.get("apps"), "pat")
    assert counted() == 3


def test_sessions_end(clinic: Server) -> None:
    """Idle 15 minutes, in any case 12 hours."""
    records, shift = clinic.domain.identities.records, [0.0]
    now = records.now
    ledger_ahead(clinic, lambda: shift[0])
    records.now = lambda: now() + shift[0]
    browser = Browser(clinic)
    browser.sign_in(browser.get("apps"), "doc")
    shift[0] += 14 * 60
    assert "Apps with access" in browser.get("apps").text
    shift[0] += 14 * 60
    assert "Apps with access" in browser.get("apps").text
    shift[0] += 16 * 60
    assert 'name="password"' in browser.get("apps").text
    browser.sign_in(browser.get("apps"), "doc")
    for _ in range(80):
        shift[0] += 10 * 60
        page = browser.get("apps")
    assert 'name="password"' in page.text


def test_signing_out(clinic: Server) -> None:
    browser = Browser(clinic)
    browser.sign_in(browser.get("apps"), "doc")
    kept = dict(browser.cookies)
    done = browser.submit(browser.get("logout"))
    assert "You are signed out" in done.text and "vehr-session" not in browser.cookies
    browser.cookies = kept
    assert 'name="password"' in browser.get("apps").text


def test_a_disabled_user_is_out_at_once(clinic: Server) -> None:
    browser = Browser(clinic)
    page = browser.sign_in(browser.get(App(clinic).authorize(SCOPE)), "doc")
    clinic.run(clinic.domain.identities.users.change("doc", disabled=True))
    after = browser.submit(page, ("patient", "a"))
    assert after.status_code in (200, 403) and 'name="scope"' not in after.text


def test_prompt_login_asks_again(clinic: Server) -> None:
    browser = Browser(clinic)
    tokens_for(App(clinic), SCOPE, browser)
    page = browser.get(App(clinic).authorize(SCOPE, prompt="login"))
    assert 'name="password"' in page.text
    assert code_for(App(clinic), SCOPE, browser, request={"prompt": "login"})
    assert 'name="patient"' in browser.get(App(clinic).authorize(SCOPE)).text


def test_posting_to_authorize_from_elsewhere_does_not_end_a_session(clinic: Server) -> None:
    """SameSite=Lax cookies do not come with it: nothing may be set in their place."""
    stranger = Browser(clinic)
    answer = stranger.once(
        "POST",
        "authorize",
        headers=FORM,
        content="&".join(
            f"{k}={v.replace(' ', '+').replace('/', '%2F')}"
            for k, v in App(clinic).request(SCOPE).items()
        ),
    )
    assert answer.status_code == 303 and not answer.headers.get_list("set-cookie")


GUARDED = [row for row in ENDPOINTS if row.asks != "nothing"]


@pytest.mark.parametrize("row", GUARDED, ids=lambda r: f"{r.method} {r.path}")
def test_every_guarded_endpoint_denies(clinic: Server, row: Endpoint) -> None:
    """The deny-every-route test of /auth: nothing without the credentials that a row asks for."""
    revoked = clinic.token("user/*.rs openid", user="doc")
    clinic.run(clinic.domain.tokens.revoke(revoked))
    expired = clinic.token("user/*.rs openid", user="doc", minutes=-1)
    tokens = [revoked, expired, "garbage"]
    headers = {"none": {}, **{t[:6]: {"authorization": f"Bearer {t}"} for t in tokens}}
    body, kind = b"", {}
    if row.body == "form":
        body, kind = b"token=x&grant_type=client_credentials&approval=x&decision=approve", FORM
    elif row.body == "json":
        body = b'{"client_id":"app","patient":"a"}'
        kind = {"content-type": "application/json"}
    for name, given in headers.items():
        cookie = {"cookie": "vehr-session=garbage; vehr-form=garbage"}
        answer = clinic.send(
            row.method, f"{AUTH}/{row.path}", headers={**given, **kind, **cookie}, content=body
        )
        assert "Family" not in answer.text and "access_token" not in answer.text
        if row.asks == "session" and row.method == "GET":
            assert answer.status_code == 303 or "signed out" in answer.text, name
        elif row.asks == "session":
            assert answer.status_code in (400, 403), (name, answer.status_code)
        else:
            refused = 403 if row.path == "register" else 401  # it is off
            assert answer.status_code == refused, (name, answer.status_code)


def test_the_documentation_lists_every_endpoint(smart: Server) -> None:
    """T21."""
    page = smart.get(f"{ROOT}/docs").text
    for row in ENDPOINTS:
        assert f"/auth/{row.path}<" in page and row.description.split("?")[0] in page


def test_the_open_endpoints_are_these() -> None:
    found = {(row.method, row.path) for row in ENDPOINTS if row.asks == "nothing"}
    assert found == {
        ("GET", ".well-known/openid-configuration"),
        ("GET", "jwks"),
        ("GET", "style.json"),
        ("GET", "style.css"),
        ("GET", "authorize"),
        ("POST", "authorize"),
        ("GET", "continue"),
        ("POST", "login"),
        ("GET", "external"),
        ("GET", "external/callback"),
    }


def test_a_state_cannot_break_out_of_the_answer(clinic: Server) -> None:
    app = App(clinic, state="x\r\nSet-Cookie: a=b&code=stolen")
    browser = Browser(clinic)
    answer = approve(browser, browser.get(app.authorize(SCOPE)), decision="deny")
    assert "set-cookie" not in answer.headers
    found = parameters(answer)
    assert found["state"] == app.state and "code" not in found


def test_pages_show_nothing_of_the_record_before_the_login(clinic: Server) -> None:
    page = Browser(clinic).get(App(clinic).authorize(SCOPE, login_hint="doc"))
    assert "Family" not in page.text and "doc" not in re.sub(r'"[^"]*"', "", page.text).split()


def test_tokens_of_an_app_are_no_session(clinic: Server) -> None:
    tokens = tokens_for(App(clinic), SCOPE)
    browser = Browser(clinic)
    browser.cookies["vehr-session"] = tokens["access_token"]
    assert 'name="password"' in browser.get("apps").text
    answer = clinic.get(f"{AUTH}/apps", headers=bearer(tokens))
    assert answer.status_code == 303
    assert BACK and FHIR
