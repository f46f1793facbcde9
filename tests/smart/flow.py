"""A browser without scripts and an app, for walking through the real pages."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import httpx

from tests.serving import Server

ROOT = "http://127.0.0.1:8080"
AUTH = f"{ROOT}/auth"
FHIR = f"{ROOT}/fhir"
WORD = "correct horse battery"
SCOPE = "launch/patient patient/*.rs"
BACK = "https://app.example.org/cb"
FORM = {"content-type": "application/x-www-form-urlencoded"}
Json = dict[str, Any]


def ledger_ahead(server: Server, seconds: Callable[[], float]) -> None:
    """The clock of a server's ledger, on any store, is so much ahead."""
    ledger: Any = server.domain.store.ledger
    name = "_clock" if hasattr(ledger, "_clock") else "_now"
    before = getattr(ledger, name)
    setattr(ledger, name, lambda: before() + seconds())


@dataclass
class Form:
    """The fields of one form, as (name, value, kind, checked)."""

    action: str = ""
    method: str = "get"
    fields: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for n, value, _, _ in self.fields if n == name]

    def hidden(self) -> list[tuple[str, str]]:
        return [(n, v) for n, v, kind, _ in self.fields if kind == "hidden"]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
        elif tag in ("input", "button") and "name" in given and self.forms:
            kind = given.get("type", "text")
            row = (given["name"], given.get("value", ""), kind, "checked" in given)
            self.forms[-1].fields.append(row)


def forms(page: httpx.Response) -> list[Form]:
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


class Browser:
    """Keeps cookies and follows redirects within the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def once(self, method: str, url: str, **options: Any) -> httpx.Response:
        """One exchange; cookies are kept."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**({"cookie": jar} if jar else {}), **self.headers}
        headers |= options.pop("headers", {})
        answer = self.server.send(method, urljoin(AUTH + "/", url), headers=headers, **options)
        for row in answer.headers.get_list("set-cookie"):
            name, _, rest = row.partition("=")
            value = rest.partition(";")[0]
            if "Max-Age=0" in rest:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def follow(self, answer: httpx.Response) -> httpx.Response:
        while answer.status_code in (302, 303) and answer.headers["location"].startswith("/"):
            answer = self.once("GET", answer.headers["location"])
        return answer

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.follow(self.once("GET", url, **options))

    def post(self, url: str, data: list[tuple[str, str]], **options: Any) -> httpx.Response:
        body = urlencode(data)
        return self.follow(self.once("POST", url, content=body, headers=FORM, **options))

    def submit(
        self, page: httpx.Response, *values: tuple[str, str], which: int = -1
    ) -> httpx.Response:
        """A form with its hidden fields and these."""
        form = forms(page)[which]
        return self.post(form.action, [*form.hidden(), *values])

    def sign_in(self, page: httpx.Response, user: str, word: str = WORD) -> httpx.Response:
        return self.submit(page, ("username", user), ("password", word))


@dataclass
class App:
    """A client as an app knows it."""

    server: Server
    id: str = "app"
    redirect: str = BACK
    secret: str = ""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    @property
    def challenge(self) -> str:
        made = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(made).decode().rstrip("=")

    def request(self, scope: str, **changed: str | None) -> dict[str, str]:
        given = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": self.redirect,
            "scope": scope,
            "state": self.state,
            "aud": FHIR,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **changed,
        }
        return {name: value for name, value in given.items() if value is not None}

    def authorize(self, scope: str, **changed: str | None) -> str:
        return f"{AUTH}/authorize?{urlencode(self.request(scope, **changed))}"

    def headers(self) -> dict[str, str]:
        if not self.secret:
            return FORM
        basic = base64.b64encode(f"{self.id}:{self.secret}".encode()).decode()
        return {**FORM, "authorization": f"Basic {basic}"}

    def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        if not self.secret and headers is None:
            form = {"client_id": self.id, **form}
        body = urlencode(form)
        return self.server.send(
            "POST", f"{AUTH}/{path}", content=body, headers=headers or self.headers()
        )

    def redeem(self, code: str, **changed: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": self.verifier,
            **changed,
        }
        return self.post("token", **{k: v for k, v in form.items() if v is not None})

    def refresh(self, token: str, **more: str) -> httpx.Response:
        return self.post("token", grant_type="refresh_token", refresh_token=token, **more)


def parameters(answer: httpx.Response) -> dict[str, str]:
    """What a redirect to the app says."""
    assert answer.status_code in (302, 303), answer.text
    found = parse_qsl(urlsplit(answer.headers["location"]).query, keep_blank_values=True)
    assert len(found) == len(dict(found))
    return dict(found)


Tick = Callable[[Form], Collection[str]]


def everything(form: Form) -> list[str]:
    """What is ticked when the page comes."""
    return [v for n, v, _, checked in form.fields if n == "scope" and checked]


def approve(
    browser: Browser,
    page: httpx.Response,
    *,
    user: str = "doc",
    patient: str = "a",
    tick: Tick = everything,
    decision: str = "approve",
) -> httpx.Response:
    """Through login, picker and consent, whichever come."""
    if 'name="username"' in page.text:
        page = browser.sign_in(page, user)
    if 'name="patient"' in page.text:
        assert patient in forms(page)[-1].values("patient")
        page = browser.submit(page, ("patient", patient))
    assert page.status_code == 200, page.text
    form = forms(page)[-1]
    ticked = [("scope", value) for value in tick(form)]
    return browser.submit(page, *ticked, ("decision", decision))


def code_for(app: App, scope: str, browser: Browser | None = None, **how: Any) -> str:
    """A code for what is asked, allowed by ``doc`` for patient ``a``."""
    changed = how.pop("request", {})
    browser = browser or Browser(app.server)
    answer = approve(browser, browser.get(app.authorize(scope, **changed)), **how)
    found = parameters(answer)
    assert found["state"] == app.state and found["iss"] == AUTH, found
    return found["code"]


def tokens_for(app: App, scope: str, browser: Browser | None = None, **how: Any) -> Json:
    answer = app.redeem(code_for(app, scope, browser, **how))
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def bearer(tokens: Json) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens['access_token']}"}


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)
