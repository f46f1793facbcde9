"""The protocol on a socket: whole answers, streams, HEAD, pipelining, headers that break out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.server import ServerState

from fhir_server.http.outbox import Outbox, Ready
from fhir_server.http.protocol import _Whole
from fhir_server.http.respond import EDGE_LINES, WAY, deliver, short_way
from fhir_server.model.exchange import Response
from fhir_server.workers.connection import Connection, LimitedConfig, Limits

BAD = b"x\r\nset-cookie: a=b"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers by path."""
    path = scope["path"]
    body = b"whole " + path.encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"x-twice", b"1"), (b"x-twice", b"2")]
    match path:
        case "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one", b"two"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/nothing":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        case "/close":
            headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        case "/short":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            raise RuntimeError("before the body")
        case "/bad":
            headers.append((b"x-bad", BAD))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        case "/fhir" | "/fhir/split":
            assert WAY in scope
            headers_ = {"ETag": BAD.decode()} if path == "/fhir/split" else {"ETag": 'W/"1"'}
            scope[EDGE_LINES] = "x-request-id: 1\r\n"
            await deliver(Response(200, b"{}", headers_), scope, send)
            assert WAY not in scope
        case _:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[tuple[str, int]]:
    """The protocol on a port of this machine; its address."""
    config = LimitedConfig(
        application, server_header=False, date_header=False, log_level="critical"
    )
    config.limits = Limits(connections=10, head=9000, head_seconds=60, stall_seconds=60)
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    server = await loop.create_server(
        lambda: Connection(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def _talk(requests: bytes) -> bytes:
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(requests)
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()


def answers(*paths: str, method: str = "GET") -> bytes:
    """What comes back for requests that are sent at once; the last one closes."""
    lines = [f"{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n" for path in paths[:-1]]
    lines.append(f"{method} {paths[-1]} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    return asyncio.run(_talk("".join(lines).encode()))


WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nx-twice: 1\r\nx-twice: 2\r\n\r\nwhole /a"
    b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nx-twice: 1\r\nx-twice: 2\r\nconnection: close\r\n"
)


def test_pipelined_whole_answers() -> None:
    assert answers("/a", "/b") == WHOLE + b"\r\nwhole /b"


def test_stream() -> None:
    got = answers("/stream", "/c")
    assert b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\nHTTP" in got
    assert got.endswith(b"whole /c")


def test_head_has_no_body() -> None:
    got = answers("/a", "/b", method="HEAD")
    assert got.count(b"content-length: 8") == 2
    assert b"whole" not in got


def test_no_content() -> None:
    got = answers("/nothing", "/d")
    assert got.startswith(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_the_application_may_close() -> None:
    got = answers("/close", "/never")
    assert b"connection: close" in got and got.endswith(b"whole /close")


def test_a_fault_after_the_head_closes() -> None:
    assert b"whole" not in answers("/short", "/e")


def test_bad_headers_of_the_application_are_500() -> None:
    got = answers("/bad", "/e")
    assert got.startswith(b"HTTP/1.1 500 ") or got == b""
    assert b"set-cookie" not in got


SHORT = (
    b'HTTP/1.1 200 OK\r\nx-request-id: 1\r\nETag: W/"1"\r\n'
    b"content-type: application/fhir+json; charset=utf-8\r\ncontent-length: 2\r\n"
)


def test_whole_answers_go_the_short_way() -> None:
    assert answers("/fhir", "/a").startswith(SHORT + b"\r\n{}HTTP/1.1 200 OK\r\n")


def test_the_long_way_says_the_same() -> None:
    """The last request closes the connection, which only uvicorn can do."""
    got = answers("/fhir").lower()
    for line in (b'etag: w/"1"', b"content-length: 2", b"connection: close", b"\r\n\r\n{}"):
        assert line in got


def test_a_header_cannot_break_out_of_its_line() -> None:
    got = answers("/fhir/split", "/a")
    assert b"etag: x  set-cookie: a=b\r\n" in got and b"\r\nset-cookie" not in got


class Waiting(Outbox):
    """Sends nothing by itself."""

    def __init__(self) -> None:
        super().__init__(None)
        self.sent: list[int] = []
        self.posted = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """``/fhir`` waits, other paths are answered at once."""
        if scope["path"] != "/fhir":
            await app(scope, receive, send)
            return
        scope[EDGE_LINES] = "x-request-id: 1\r\n"
        response = Response(200, b"{}", {"ETag": 'W/"1"'})
        way = short_way(response, scope, self.flush)
        assert way is not None
        self.post(Ready(way, scope[EDGE_LINES], response, self.sent.append), lambda flush: None)
        self.posted.set()


GOOD = b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
BROKEN = b"no request\r\n\r\n"


@pytest.mark.parametrize("then", [GOOD, BROKEN], ids=["good", "broken"])
@pytest.mark.parametrize("few", [True, False])
def test_an_answer_that_waits_is_not_overtaken(
    monkeypatch: pytest.MonkeyPatch, few: bool, then: bytes
) -> None:
    """Of few each is answered at once; else the next request of the connection sends it."""
    monkeypatch.setattr(_Whole, "few", few)

    async def talk() -> tuple[bytes, list[int]]:
        outbox = Waiting()
        async with serving(outbox) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /fhir HTTP/1.1\r\nhost: a\r\n\r\n")
            await asyncio.wait_for(outbox.posted.wait(), 60)
            before = [*outbox.sent]
            writer.write(then)
            got = await asyncio.wait_for(reader.read(), 60)
            writer.close()
        return got, before

    got, before = asyncio.run(talk())
    status = b"200 OK\r\n" if then is GOOD else b"400 Bad Request\r\n"
    assert got.startswith(SHORT + b"\r\n{}HTTP/1.1 " + status)
    assert before == ([200] if few else [])
