"""The protocol on a socket: whole answers, streams, HEAD, pipelining, headers that break out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from fhir_server.http.protocol import Protocol, head_of

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
        case _:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})


async def _talk(requests: bytes) -> bytes:
    config = uvicorn.Config(app, server_header=False, date_header=False, log_level="critical")
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    server = await loop.create_server(
        lambda: Protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
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


@pytest.mark.parametrize("path", ["/short", "/bad"])
def test_faults_of_the_application_are_500(path: str) -> None:
    got = answers(path, "/e")
    assert got.startswith(b"HTTP/1.1 500 ") or got == b""
    assert b"set-cookie" not in got


def test_a_header_cannot_break_out_of_its_line() -> None:
    assert head_of(200, [(b"a", b"b")]) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"
    for value in (BAD, b"x\n", b"x\r", b"x\0"):
        assert head_of(200, [(b"a", value)]) is None
