"""Users, clients, relationships: what is kept of them and what is refused."""

from __future__ import annotations

import asyncio
import time
from base64 import b32encode
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from fhir_server.auth import totp
from fhir_server.auth.clients import check_redirect
from fhir_server.auth.passwords import Passwords
from fhir_server.auth.relations import Relation
from fhir_server.auth.throttle import Limit, origin
from fhir_server.model.problem import BadRequest, Conflict, NotFound, TooManyRequests
from tests.serving import Server

WORD = "correct horse battery"


def refused(server: Server, kind: type[Exception], work: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(kind):
        server.run(work)


def test_users(secured: Server) -> None:
    users = secured.domain.identities.users
    secured.user("doc", "family-doctor", "Practitioner/d", WORD)
    user = secured.run(users.named("doc"))
    assert user.password.startswith("$argon2id$") and WORD not in str(user)
    assert secured.run(users.authenticate("doc", WORD)) == user
    assert secured.run(users.authenticate("doc", WORD + "x")) is None
    assert secured.run(users.authenticate("nobody", WORD)) is None
    secured.run(users.change("doc", disabled=True))
    assert secured.run(users.authenticate("doc", WORD)) is None
    refused(secured, Conflict, users.add("doc", "nurse"))
    refused(secured, BadRequest, users.add("a b", "nurse"))
    refused(secured, BadRequest, users.add("x/y", "nurse"))
    refused(secured, BadRequest, users.add("other", "king"))
    refused(secured, BadRequest, users.add("other", "nurse", fhir_user="Observation/1"))
    refused(secured, BadRequest, users.add("other", "nurse", fhir_user="Patient/../1"))
    refused(secured, BadRequest, users.add("other", "nurse", password="short"))
    refused(secured, NotFound, users.change("other", disabled=True))
    assert [u.name for u in secured.run(users.all())] == ["doc"]


def test_who_has_no_password_does_not_sign_in(smart: Server) -> None:
    users = smart.domain.identities.users
    smart.user("silent", "nurse")
    for word in ("", " ", WORD):
        assert smart.run(users.authenticate("silent", word)) is None


def test_passwords_cost_what_they_should() -> None:
    """argon2id, t=3, m=64 MiB, p=4; an unknown name costs a verification too."""

    async def measured() -> tuple[str, float, float]:
        passwords = Passwords()
        known = await passwords.hashed(WORD)
        await passwords.verify("", WORD)
        times = []
        for hash_ in (known, ""):
            started = time.process_time()
            for _ in range(3):
                await passwords.verify(hash_, "wrong " + WORD)
            times.append(time.process_time() - started)
        return known, times[0], times[1]

    known, wrong, unknown = asyncio.run(measured())
    assert known.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert 0.5 < wrong / unknown < 2


def test_one_time_codes_are_those_of_the_rfc() -> None:
    """RFC 6238, appendix B (SHA-1), the last six digits."""
    key = b32encode(b"12345678901234567890").decode()
    for moment, code in (
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ):
        assert totp.code_at(key, moment // 30) == code
        assert totp.step_of(key, code, moment) == moment // 30
        assert totp.step_of(key, code, moment + 30) is not None
        assert totp.step_of(key, code, moment + 90) is None
    for wrong in ("", "28708", "0287082", "abcdef", "２８７０８２"):
        assert totp.step_of(key, wrong, 59) is None


def test_a_code_is_spent_once(smart: Server) -> None:
    smart.user("doc", "nurse")
    users = smart.domain.identities.users
    user = smart.run(users.named("doc"))
    assert smart.run(users.spend_code(user, "A", 7))
    assert not smart.run(users.spend_code(user, "A", 7))


def test_attempts_are_counted_before_they_are_judged(secured: Server) -> None:
    throttle = secured.domain.identities.throttle
    limit = Limit(free=3, first=1000)

    async def many() -> list[BaseException | None]:
        return await asyncio.gather(
            *(throttle.attempt("account/x", limit) for _ in range(10)), return_exceptions=True
        )

    results = secured.run(many())
    assert sum(1 for r in results if isinstance(r, TooManyRequests)) == 7
    refused(secured, TooManyRequests, throttle.attempt("account/x", limit))
    secured.run(throttle.attempt("account/y", limit))
    secured.run(throttle.succeeded("account/x"))
    secured.run(throttle.attempt("account/x", limit))


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example.org/cb",
        "https://u:p@app.example.org/",
        "https://app.example.org/cb#x",
        "https://app.example.org/a/../b",
        "https://app.example.org/ b",
        "https://",
        "//app.example.org",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://localhost:80@evil.example/",
        "http://127.0.0.1.evil.example/",
        "https://app.example.org:port/",
        "",
    ],
)
def test_what_cannot_be_a_redirect_address(uri: str) -> None:
    with pytest.raises(BadRequest):
        check_redirect(uri)


def test_redirect_addresses_are_equal_letter_by_letter(smart: Server) -> None:
    """B04; RFC 8252 section 7.3 for a registered loopback address without a port."""
    known = ("https://app.example.org/cb", "http://127.0.0.1/back", "com.example.app:/cb")
    client = smart.client("app", redirects=known)
    for uri in (*known, "http://127.0.0.1:5123/back"):
        assert client.redirects_to(uri)
    for uri in (
        "https://app.example.org/cb/",
        "https://app.example.org/cb?x=1",
        "https://app.example.org/CB",
        "https://APP.example.org/cb",
        "https://app.example.org:443/cb",
        "https://app.example.org/x/../cb",
        "https://user@app.example.org/cb",
        "http://app.example.org/cb",
        "http://127.0.0.1:5123/back/x",
        "http://127.0.0.1:x/back",
        "http://localhost:5123/back",
        "http://127.0.0.1:80@evil.example/back",
        "",
    ):
        assert not client.redirects_to(uri), uri


def test_clients(secured: Server) -> None:
    clients = secured.domain.identities.clients
    secured.client("service", secret="0123456789abcdef", scope="system/*.rs")
    kept = secured.run(clients.find("service"))
    assert kept is not None and kept.knows("0123456789abcdef") and not kept.knows("x")
    assert "0123456789abcdef" not in str(kept)
    public = secured.client("public", redirects=("https://a.example/",))
    assert not public.knows("")
    for bad in ("", "a b", "../x", "x" * 200):
        with pytest.raises(BadRequest):
            secured.client(bad)
    with pytest.raises(Conflict):
        secured.client("public")
    assert [c.id for c in secured.run(clients.all())] == ["public", "service"]


def test_relationships_begin_and_end(secured: Server) -> None:
    relations = secured.domain.identities.relations
    now = secured.domain.identities.records.now()
    secured.relation("doc", "p1")
    secured.run(relations.add(Relation("doc", "p2", "referral", now + 1000)))
    refused(secured, BadRequest, relations.add(Relation("doc", "p1", "x/y", now)))
    refused(secured, BadRequest, relations.add(Relation("doc", "p/1", "team", now)))
    refused(secured, BadRequest, relations.add(Relation("doc", "p1", "team", now, now - 1)))
    refused(secured, NotFound, relations.end("doc", "p3"))
    secured.run(relations.end("doc", "p1"))
    held = {r.patient: r.holds(now + 500) for r in secured.run(relations.of("doc"))}
    assert held == {"p1": False, "p2": False}


def test_the_store_holds_no_secret(tmp_path: Path) -> None:
    """T24: neither passwords nor tokens nor client secrets are found in the files."""
    from tests.serving import served

    with served("sqlite", tmp_path, open_=False) as server:
        server.user("doc", "nurse", password="Canary-password-1")
        server.client("service", secret="Canary-secret-0123456789")
        token = server.token("system/*.rs")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (b"Canary-password-1", b"Canary-secret-0123456789", token.encode()):
        assert secret not in kept


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_t02_what_is_counted_of_an_address(address: str, counted: str) -> None:
    """Who has a line has its IPv6 network whole: guesses do not begin anew with each address."""
    assert origin(address) == counted
