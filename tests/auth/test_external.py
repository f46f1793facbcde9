"""Signing in by an external OpenID provider: a small one on this machine, honest or not."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey, RSAKey
from typer.testing import CliRunner

from fhir_server.auth.provider import provider_of
from fhir_server.cli import app
from fhir_server.config import SettingsError
from tests.auth.test_administration import Admin
from tests.auth.test_factor import code, enrolled
from tests.serving import Server, served
from tests.smart.conftest import people
from tests.smart.flow import AUTH, App, Browser, bearer, code_for

OWN, OTHER = RSAKey.generate_key(2048, {"kid": "one"}), RSAKey.generate_key(2048, {"kid": "one"})
SECRET = "between the two of us"


class Provider:
    """Issues an id_token for each code, as ``claims`` and ``sign`` make it."""

    def __init__(self) -> None:
        self.subject = "employee-7"
        self.claims: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.configuration: dict[str, Any] = {}
        self.asked: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.answers: dict[str, str] = {}
        handler = type("Handler", (_Handler,), {"provider": self})
        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.issuer = f"http://127.0.0.1:{self.listener.server_port}/realm"

    @staticmethod
    def signed(claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, OWN)

    def allow(self, url: str) -> str:
        """The user agrees; where the browser is sent back to."""
        given = dict(parse_qsl(urlsplit(url).query))
        made = f"code-{len(self.asked)}"
        self.asked[made] = given
        back = {"code": made, "state": given["state"], "iss": self.issuer, **self.answers}
        return f"{given['redirect_uri']}?{urlencode(back)}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        given = self.asked.pop(form["code"], None)
        expected = (
            "Basic " + base64.b64encode(f"vehr:{SECRET.replace(' ', '%20')}".encode()).decode()
        )
        if given is None or authorization != expected:
            return None
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if challenge != given["code_challenge"] or form["redirect_uri"] != given["redirect_uri"]:
            return None
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "vehr",
            "sub": self.subject,
            "nonce": given["nonce"],
            "iat": now,
            "exp": now + 60,
            "email": "doc@example.org",
        }
        return {"token_type": "Bearer", "id_token": self.sign(self.claims(claims))}

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
            **self.configuration,
        }


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        path = self.path.removeprefix("/realm")
        self.provider.requests.append(path)
        if path == "/.well-known/openid-configuration":
            self.reply(self.provider.document())
        else:
            self.reply({"keys": [OWN.as_dict(private=False)]})

    def do_POST(self) -> None:
        self.provider.requests.append("/token")
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        found = self.provider.token(form, self.headers.get("authorization", ""))
        self.reply(found or {"error": "invalid_grant"}, 200 if found else 400)

    def reply(self, document: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    threading.Thread(target=made.listener.serve_forever, daemon=True).start()
    yield made
    made.listener.shutdown()
    made.listener.server_close()


def described(folder: Path, provider: Provider, **more: str) -> Path:
    (folder / "secret").write_text(SECRET + "\n")
    values = {"issuer": provider.issuer, "client_id": "vehr", "secret_file": "secret", **more}
    file = folder / "provider.toml"
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    return file


@pytest.fixture
def joined(tmp_path: Path, provider: Provider) -> Iterator[Server]:
    """A server whose ``doc`` is employee-7 of the provider."""
    file = described(tmp_path, provider, name="Staff <login>")
    rules = {"login_provider": file, "outbound_loopback": "yes"}
    with served("memory", tmp_path, open_=False, **rules) as server:
        people(server)
        users = server.domain.identities.users
        server.run(users.link("doc", f"{provider.issuer} employee-7"))
        yield server


def test_what_is_shown_of_a_link_can_be_sent_back(joined: Server, provider: Provider) -> None:
    admin, whole = Admin(joined), f"{provider.issuer} employee-7"
    assert admin("GET", "users/doc").json()["identity"] == whole
    for given in (whole, "employee-7"):
        answer = admin("PATCH", "users/doc", {"identity": given})
        assert answer.status_code == 200 and answer.json()["identity"] == whole
    assert "doc" in back(provider, Browser(joined)).text
    made = admin("PATCH", "users/pat", {"identity": f"{provider.issuer} CN=Pat Doe"})
    assert made.json()["identity"] == f"{provider.issuer} CN=Pat Doe"
    assert admin("PATCH", "users/pat", {"identity": ""}).json()["identity"] == ""


@pytest.mark.parametrize(
    "given",
    [
        "https://other.example employee-7",
        "{issuer}/ employee-7",
        "{issuer}x employee-7",
        "HTTPS://other.example employee-7",
        " {issuer} employee-7",
        "{issuer}\temployee-7",
        "{issuer} {issuer} employee-7",
        "{issuer} ",
        " ",
    ],
)
def test_a_link_to_another_issuer_is_refused(
    joined: Server, provider: Provider, given: str
) -> None:
    """Nothing else of the change is made either."""
    admin, body = Admin(joined), {"identity": given.format(issuer=provider.issuer)}
    assert admin("PATCH", "users/doc", {**body, "role": "nurse"}).status_code == 400
    shown = admin("GET", "users/doc").json()
    assert shown["identity"] == f"{provider.issuer} employee-7"
    assert shown["role"] == "family-doctor"


def test_the_command_takes_both_ways_of_naming(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text('issuer = "https://op.example"\nclient_id = "x"\n')
    provider = provider_of(file)
    assert provider.meant("7") == provider.meant("https://op.example 7") == "https://op.example 7"
    assert provider.meant("https://op.example") == "https://op.example https://op.example"
    env = {"VEHR_LOGIN_PROVIDER": str(file), "VEHR_DATA": str(tmp_path / "data")}
    refused = CliRunner().invoke(app, ["user", "link", "doc", "https://b.example 7"], env=env)
    assert isinstance(refused.exception, SettingsError)
    assert "not a claim of https://op.example" in str(refused.exception)
    assert not (tmp_path / "data").exists()


def away(browser: Browser, page: httpx.Response) -> str:
    """Where the button leads."""
    place = page.text.partition('href="/auth/external?')[2].partition('"')[0]
    answer = browser.once("GET", f"{AUTH}/external?{place}")
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def back(provider: Provider, browser: Browser, url: str = "") -> httpx.Response:
    """Through the provider, and home."""
    url = url or away(browser, browser.get(AUTH))
    return browser.get(provider.allow(url))


def test_a_user_signs_in_by_the_provider(joined: Server, provider: Provider) -> None:
    browser, app = Browser(joined), App(joined)
    login = browser.get(app.authorize("launch/patient patient/*.rs openid"))
    assert "Sign in with Staff &lt;login&gt;" in login.text
    url = away(browser, login)
    asked = dict(parse_qsl(urlsplit(url).query))
    assert url.startswith(f"{provider.issuer}/authorize?")
    assert asked["code_challenge_method"] == "S256" and asked["scope"] == "openid"
    assert asked["redirect_uri"] == f"{AUTH}/external/callback"
    picker = back(provider, browser, url)
    assert 'name="patient"' in picker.text and "vehr-session" in browser.cookies
    tokens = app.redeem(code_for(app, "launch/patient patient/*.rs openid", browser)).json()
    assert joined.get("Patient/a", headers=bearer(tokens)).status_code == 200


def test_who_is_not_linked_stays_out(joined: Server, provider: Provider) -> None:
    """Neither by name nor by e-mail: only by the link."""
    for subject in ("doc", "employee-8", "doc@example.org"):
        provider.subject = subject
        browser = Browser(joined)
        assert back(provider, browser).status_code == 403
        assert "vehr-session" not in browser.cookies
    provider.subject = "employee-7"
    joined.run(joined.domain.identities.users.change("doc", disabled=True))
    assert back(provider, Browser(joined)).status_code == 403


def test_one_identity_is_one_user(joined: Server, provider: Provider) -> None:
    from fhir_server.model.problem import Conflict

    users = joined.domain.identities.users
    with pytest.raises(Conflict):
        joined.run(users.link("pat", f"{provider.issuer} employee-7"))
    joined.run(users.link("doc", ""))
    assert back(provider, Browser(joined)).status_code == 403
    joined.run(users.link("pat", f"{provider.issuer} employee-7"))
    assert "pat" in back(provider, Browser(joined)).text


def signed_text(claims: dict[str, Any]) -> str:
    """Signed by the provider, whatever Python writes as JSON."""
    return jws.serialize_compact({"alg": "RS256", "kid": "one"}, json.dumps(claims), OWN)


FORGED: dict[str, Callable[[Provider], None]] = {
    "nonce": lambda p: setattr(p, "claims", lambda c: {**c, "nonce": "other"}),
    "no nonce": lambda p: setattr(p, "claims", lambda c: {**c, "nonce": None}),
    "issuer": lambda p: setattr(p, "claims", lambda c: {**c, "iss": "https://evil.example"}),
    "audience": lambda p: setattr(p, "claims", lambda c: {**c, "aud": "other"}),
    "audiences": lambda p: setattr(p, "claims", lambda c: {**c, "aud": ["vehr", "other"]}),
    "azp": lambda p: setattr(p, "claims", lambda c: {**c, "azp": "other"}),
    "expired": lambda p: setattr(p, "claims", lambda c: {**c, "exp": int(time.time()) - 60}),
    "exp text": lambda p: setattr(p, "claims", lambda c: {**c, "exp": "9999999999"}),
    "exp no number": lambda p: setattr(p, "sign", lambda c: signed_text({**c, "exp": math.nan})),
    "exp without end": lambda p: setattr(p, "sign", lambda c: signed_text({**c, "exp": math.inf})),
    "iat no number": lambda p: setattr(p, "sign", lambda c: signed_text({**c, "iat": math.nan})),
    "future": lambda p: setattr(p, "claims", lambda c: {**c, "iat": int(time.time()) + 600}),
    "no subject": lambda p: setattr(p, "claims", lambda c: {**c, "sub": ""}),
    "subject list": lambda p: setattr(p, "claims", lambda c: {**c, "sub": ["employee-7"]}),
    "other key": lambda p: setattr(
        p, "sign", lambda c: jwt.encode({"alg": "RS256", "kid": "one"}, c, OTHER)
    ),
    "other kid": lambda p: setattr(
        p, "sign", lambda c: jwt.encode({"alg": "RS256", "kid": "two"}, c, OWN)
    ),
    "alg none": lambda p: setattr(
        p,
        "sign",
        lambda c: (
            ".".join(
                base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                for part in ({"alg": "none"}, c)
            )
            + "."
        ),
    ),
    "alg HS256": lambda p: setattr(
        p,
        "sign",
        lambda c: jwt.encode(
            {"alg": "HS256", "kid": "one"},
            c,
            OctKey.import_key(OWN.as_pem(private=False)),
            algorithms=["HS256"],
        ),
    ),
    "not a token": lambda p: setattr(p, "sign", lambda c: "garbage"),
    "mix-up": lambda p: p.answers.update(iss="https://evil.example"),
    "no iss": lambda p: p.answers.update(iss=""),
    "another's configuration": lambda p: p.configuration.update(issuer="https://evil.example"),
    "no endpoint": lambda p: p.configuration.update(token_endpoint=None),
    "code": lambda p: p.answers.update(code="stolen"),
    "denied": lambda p: p.answers.update(code="", error="access_denied"),
    "keys elsewhere": lambda p: p.configuration.update(jwks_uri="http://10.0.0.1/jwks"),
    "token elsewhere": lambda p: p.configuration.update(token_endpoint="https://10.0.0.1/t"),
}


@pytest.mark.parametrize("name", list(FORGED))
def test_a_forged_answer_signs_nobody_in(joined: Server, provider: Provider, name: str) -> None:
    FORGED[name](provider)
    browser = Browser(joined)
    page = browser.get(AUTH)
    place = page.text.partition('href="/auth/external?')[2].partition('"')[0]
    answer = browser.once("GET", f"{AUTH}/external?{place}")
    if answer.status_code == 303:
        answer = browser.get(provider.allow(answer.headers["location"]))
    assert answer.status_code in (403, 502), answer.text
    assert "vehr-session" not in browser.cookies
    assert "http-equiv" not in answer.text and "evil" not in answer.text


def test_an_answer_is_for_the_browser_that_asked(joined: Server, provider: Provider) -> None:
    """Login CSRF: somebody else's answer signs nobody in."""
    mine, theirs = Browser(joined), Browser(joined)
    url = provider.allow(away(mine, mine.get(AUTH)))
    theirs.get(AUTH)
    assert theirs.get(url).status_code == 403 and "vehr-session" not in theirs.cookies
    assert Browser(joined).get(url).status_code == 403
    assert mine.get(url.replace("state=", "state=x")).status_code == 400
    assert "doc" in mine.get(url).text
    again = Browser(joined)
    again.cookies = {"vehr-form": mine.cookies["vehr-form"]}
    assert again.get(url).status_code == 502, "the code is spent"


def test_the_second_factor_is_still_asked(tmp_path: Path, provider: Provider) -> None:
    file = described(tmp_path, provider)
    rules = {"login_provider": file, "outbound_loopback": "yes", "second_factor": "required"}
    with served("memory", tmp_path, open_=False, **rules) as server:
        people(server)
        server.run(server.domain.identities.users.link("doc", f"{provider.issuer} employee-7"))
        key, _ = enrolled(server, Browser(server))
        browser = Browser(server)
        page = back(provider, browser)
        assert 'name="otp"' in page.text and "vehr-session" not in browser.cookies
        browser.submit(page, ("otp", code(server, key, 1)))
        assert "vehr-session" in browser.cookies


def test_t08_a_provider_inside_is_only_asked_if_it_is_told(
    tmp_path: Path, provider: Provider
) -> None:
    """Without the loopback setting nothing is sent to this machine."""
    file = described(tmp_path, provider)
    with served("memory", tmp_path, open_=False, login_provider=file) as server:
        browser = Browser(server)
        place = browser.get(AUTH).text.partition('href="/auth/external?')[2].partition('"')[0]
        assert browser.once("GET", f"{AUTH}/external?{place}").status_code == 502
    assert provider.requests == []


def test_without_a_provider_there_is_no_way(clinic: Server) -> None:
    browser = Browser(clinic)
    assert "/auth/external" not in browser.get(AUTH).text
    assert browser.get(f"{AUTH}/external?request=x").status_code == 404
    assert browser.get(f"{AUTH}/external/callback?state=x&code=y").status_code == 404


@pytest.mark.parametrize(
    "text",
    [
        'client_id = "x"',
        'issuer = "https://op.example"',
        'issuer = "nothing"\nclient_id = "x"',
        'issuer = "https://op.example"\nclient_id = "x"\nclaim = "email"',
        'issuer = "https://op.example"\nclient_id = "x"\nsecret = "in the file"',
        'issuer = "https://op.example"\nclient_id = "x"\nsecret_file = "none"',
        "not toml",
    ],
)
def test_a_bad_description_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="VEHR_LOGIN_PROVIDER"):
        provider_of(file)
