"""checks G: backend services and signed client assertions."""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from fhir_server.auth.outbound import Outbound, OutboundError, is_public
from tests.serving import Server, served
from tests.smart.flow import App, Json, bearer, code_for
from tests.smart.signing import (
    EC,
    OTHER,
    RSA,
    TOKEN_URL,
    TYPE,
    ask,
    claims,
    public,
    raw,
    signed,
)


@pytest.fixture
def backend(smart: Server) -> Server:
    smart.client("backend", keys=public(RSA, EC), scope="system/*.rs")
    return smart


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS384"), (EC, "ES384")])
def test_g01_a_service_gets_a_token(secured: Server, key: RSAKey | ECKey, algorithm: str) -> None:
    secured.client("backend", keys=public(RSA, EC), scope="system/*.rs")
    answer = ask(secured, signed(claims(), key, algorithm))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert set(found) == {"access_token", "token_type", "expires_in", "scope"}
    assert found["scope"] == "system/*.rs" and 0 < found["expires_in"] <= 300
    assert answer.headers["cache-control"] == "no-store"
    assert secured.get("Patient", headers=bearer(found)).status_code == 200
    body = {"resourceType": "Patient"}
    assert secured.post("Patient", body, headers=bearer(found)).status_code == 403


def test_g02_g03_other_grants_and_types(backend: Server) -> None:
    assert ask(backend, signed(claims()), grant_type="x").status_code == 400
    for type_ in ("", "x", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"):
        answer = ask(backend, signed(claims()), client_assertion_type=type_)
        assert answer.status_code == 400
        assert answer.json()["error"] in ("invalid_client", "invalid_request")
    assert ask(backend, signed(claims()), client_secret="x" * 20).status_code == 400
    assert ask(backend, signed(claims()), client_id="other").status_code == 401


BAD_CLAIMS: list[Json] = [
    {"iss": "nobody"},
    {"iss": None},
    {"sub": "other"},
    {"sub": None},
    {"aud": "https://other.example/token"},
    {"aud": "http://127.0.0.1:8080/auth"},
    {"aud": None},
    {"aud": TOKEN_URL + "/"},
    {"exp": lambda now: now - 60},
    {"exp": lambda now: now + 3600},
    {"exp": 10**12},
    {"exp": lambda now: str(now + 200)},
    {"exp": True},
    {"exp": lambda now: float(now + 200)},
    {"exp": None},
    {"jti": None},
    {"jti": ""},
    {"jti": 7},
    {"nbf": lambda now: now + 600},
    {"iat": lambda now: now + 600},
    {"iat": "now"},
]
"""A function is given the time of the test: names that hold a time differ between processes."""


@pytest.mark.parametrize("number", range(len(BAD_CLAIMS)))
def test_g04_to_g12_claims(backend: Server, number: int) -> None:
    [(name, value)] = BAD_CLAIMS[number].items()
    value = value(int(time.time())) if callable(value) else value
    answer = ask(backend, signed(claims(**{name: value})))
    assert answer.status_code == 401 and answer.json()["error"] == "invalid_client"
    assert "access_token" not in answer.text


def test_g11_a_jti_is_good_once_also_after_a_restart(tmp_path: Path) -> None:
    assertion = signed(claims())
    with served("sqlite", tmp_path, open_=False) as server:
        server.client("backend", keys=public(RSA), scope="system/*.rs")
        assert ask(server, assertion).status_code == 200
        assert ask(server, assertion).status_code == 401
    with served("sqlite", tmp_path, open_=False) as server:
        assert ask(server, assertion).status_code == 401
        assert ask(server, signed(claims())).status_code == 200


def test_g13_to_g22_signatures_and_headers(backend: Server) -> None:
    secret = json.dumps(RSA.as_dict(private=False)).encode()
    header = {"alg": "HS256", "kid": "rsa", "typ": "JWT"}
    unsigned = raw(header, claims()).rsplit(".", 1)[0]
    pem = RSA.as_pem(private=False)
    for assertion in (
        signed(claims(), OTHER),
        signed(claims(), kid=None),
        signed(claims(), kid="unknown"),
        signed(claims(), kid="ec"),
        signed(claims(), algorithm="RS256"),
        signed(claims(), jwk=OTHER.as_dict(private=False)),
        signed(claims(), OTHER, jwk=OTHER.as_dict(private=False)),
        signed(claims(), x5c=["MIIB"]),
        signed(claims(), jku="https://evil.example/keys"),
        signed(claims(), x5u="https://evil.example/cert"),
        raw({"alg": "none", "kid": "rsa"}, claims(), b""),
        raw({"alg": "None", "kid": "rsa"}, claims(), b""),
        unsigned + "." + hmac.new(secret, unsigned.encode(), "sha256").hexdigest(),
        unsigned + "." + hmac.new(pem, unsigned.encode(), "sha256").hexdigest(),
        raw({"alg": "RS384", "kid": "rsa", "crit": ["x"], "x": 1}, claims()),
        raw({"alg": ["RS384"], "kid": "rsa"}, claims()),
        raw({"alg": "RS384", "kid": {"a": 1}}, claims()),
        raw({"alg": "RS384", "kid": "rsa"}, ["backend"]),
        signed(claims())[:-8] + "AAAAAAAA",
        "a.b.c",
        "a.b",
        "",
        "....",
        "x" * 20_000,
    ):
        answer = ask(backend, assertion)
        assert answer.status_code in (400, 401), assertion[:80]
        assert answer.json()["error"] in ("invalid_client", "invalid_request")
        backend.run(backend.domain.identities.throttle.succeeded("client/backend/127.0.0.1"))


def test_g14_one_kid_twice_is_refused(smart: Server) -> None:
    smart.client("backend", keys=public(RSA, OTHER), scope="system/*.rs")
    assert ask(smart, signed(claims())).status_code == 401


def test_weak_keys_and_keys_for_something_else(smart: Server) -> None:
    small = RSAKey.generate_key(1024, {"kid": "small"}, private=True)
    p256 = ECKey.generate_key("P-256", {"kid": "p256"}, private=True)
    rows = [*public(small, p256)["keys"], {**public(RSA)["keys"][0], "use": "enc"}]
    smart.client("backend", keys={"keys": rows}, scope="system/*.rs")
    assert ask(smart, signed(claims(), small)).status_code == 401
    assert ask(smart, signed(claims(), RSA)).status_code == 401
    forged = raw({"alg": "ES384", "kid": "p256"}, claims())
    assert ask(smart, forged).status_code == 401


class _Keys(BaseHTTPRequestHandler):
    document: Any = {}
    asked = 0
    status = 200
    location = ""
    size = 0
    pause = 0.0

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked += 1
        time.sleep(kind.pause)
        body = json.dumps(kind.document).encode() + b" " * kind.size
        self.send_response(kind.status)
        if kind.location:
            self.send_header("Location", kind.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def listening() -> Iterator[tuple[str, type[_Keys]]]:
    kind = type("Keys", (_Keys,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}/keys", kind
        finally:
            listener.shutdown()
            thread.join()


def test_g23_an_address_in_the_header_is_never_asked(backend: Server) -> None:
    with listening() as (url, kind):
        for key in (RSA, OTHER):
            assert ask(backend, signed(claims(), key, jku=url)).status_code == 401
            assert ask(backend, signed(claims(), key, x5u=url)).status_code == 401
        assert kind.asked == 0


def test_g24_key_sets_by_url(tmp_path: Path) -> None:
    with (
        listening() as (url, kind),
        served("memory", tmp_path, open_=False, outbound_loopback="yes") as server,
    ):
        kind.document = public(RSA)
        server.client("backend", keys=url, scope="system/*.rs")
        assert ask(server, signed(claims())).status_code == 200
        assert ask(server, signed(claims(), jku=url)).status_code == 200
        assert kind.asked == 1
        for _ in range(5):
            assert ask(server, signed(claims(), EC, "ES384")).status_code == 401
        assert kind.asked == 1
        later = server.domain.identities.records.now
        server.domain.identities.records.now = lambda: later() + 61
        kind.document = public(RSA, EC)
        assert (
            ask(server, signed(claims(exp=int(time.time()) + 250), EC, "ES384")).status_code == 200
        )
        assert kind.asked == 2


def test_g24_what_is_not_fetched(tmp_path: Path) -> None:
    """Without the setting of tests this machine is never asked; with it, limits hold."""
    with listening() as (url, kind):
        kind.document = public(RSA)
        with served("memory", tmp_path, open_=False) as server:
            server.client("backend", keys=url, scope="system/*.rs")
            answer = ask(server, signed(claims()))
            assert answer.status_code == 401 and answer.json()["error"] == "invalid_client"
            assert kind.asked == 0

        async def fetched() -> Any:
            return (await Outbound(loopback=True).get_json(url)).content

        assert asyncio.run(fetched())["keys"]
        for change in (
            {"status": 302, "location": "http://127.0.0.1/"},
            {"status": 500},
            {"status": 200, "size": 70_000},
            {"size": 0, "pause": 2.5},
        ):
            for name, value in change.items():
                setattr(kind, name, value)
            with pytest.raises(OutboundError):
                asyncio.run(fetched())


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"),
        *("2001:0:4136:e378:8000:63bf:80ff:fffe", "::127.0.0.1", "192.0.2.1", "198.18.0.1"),
    ],
)
def test_addresses_that_are_never_asked(address: str) -> None:
    """T08."""
    assert not is_public(address)


def test_addresses_of_the_internet() -> None:
    assert is_public("93.184.215.14") and is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://localhost/",
        "https://[::ffff:127.0.0.1]/",
        "http://93.184.215.14/",
        "ftp://93.184.215.14/",
        "file:///etc/passwd",
        "https://u:p@127.0.0.1/",
        "https:///x",
        "gopher://x",
        "",
    ],
)
def test_urls_that_are_never_asked(url: str) -> None:
    async def fetched() -> None:
        await Outbound().get_json(url)

    with pytest.raises(OutboundError):
        asyncio.run(fetched())


def test_a_name_that_leads_to_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up, all of whose addresses are judged, and one of which is connected to."""
    connected: list[str] = []

    async def fetched(*addresses: str) -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            return [(0, 0, 0, "", (address, port)) for address in addresses]

        async def connect(address: str, *_: Any, **__: Any) -> Any:
            connected.append(address)
            raise OSError("no")

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(asyncio, "open_connection", connect)
        with pytest.raises(OutboundError):
            await Outbound().get_json("https://keys.example/jwks")

    asyncio.run(fetched("127.0.0.1"))
    asyncio.run(fetched("93.184.215.14", "10.0.0.1"))
    asyncio.run(fetched())
    assert connected == []
    asyncio.run(fetched("93.184.215.14"))
    assert connected == ["93.184.215.14"]


def test_g25_scopes_beyond_the_registered_are_trimmed(backend: Server) -> None:
    backend.client("small", keys=public(RSA), scope="system/Patient.rs system/Observation.r")
    wide = ask(backend, signed(claims("small")), scope="system/*.cruds patient/*.rs openid")
    assert wide.json()["scope"].split() == ["system/Patient.rs", "system/Observation.r"]
    for scope in ("", "user/*.rs", "openid launch offline_access", "system/Slot.rs", "x y"):
        answer = ask(backend, signed(claims("small")), scope=scope)
        assert answer.status_code == 400 and answer.json()["error"] == "invalid_scope", scope
    v1 = ask(backend, signed(claims()), scope="system/*.read")
    assert v1.json()["scope"] == "system/*.read"


def test_a_secret_serves_too_and_a_public_client_does_not(backend: Server) -> None:
    backend.client("service", secret="0123456789abcdef", scope="system/Patient.rs")
    app = App(backend, "service", secret="0123456789abcdef")
    answer = app.post("token", grant_type="client_credentials", scope="system/Patient.rs")
    assert answer.status_code == 200
    backend.client("page", redirects=("https://a.example/",), scope="system/*.rs")
    page = App(backend, "page")
    refused = page.post("token", grant_type="client_credentials", scope="system/*.rs")
    assert refused.status_code in (400, 401) and "access_token" not in refused.json()


def test_c11_codes_with_assertions(clinic: Server) -> None:
    from tests.smart.conftest import APP_SCOPE
    from tests.smart.flow import BACK

    clinic.client("signer", redirects=(BACK,), keys=public(EC), scope=APP_SCOPE)
    app = App(clinic, "signer")
    code = code_for(app, "launch/patient patient/*.rs")
    more = {"client_assertion_type": TYPE, "client_assertion": ""}
    more["client_assertion"] = signed(claims("signer"), EC, "ES384")
    answer = app.redeem(code, **more)
    assert answer.status_code == 200 and answer.json()["patient"] == "a"
    code = code_for(app, "launch/patient patient/*.rs")
    assert app.redeem(code).status_code == 401
