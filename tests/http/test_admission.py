"""Load and slow clients: what is too much is refused early, who is slow is closed; R12, R13."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from fhir_server.app import Domain, assemble, serving
from fhir_server.cli.serve import listening
from fhir_server.config import Settings
from fhir_server.formats.json import loads
from fhir_server.store.memory import MemoryStore
from fhir_server.workers import connection
from fhir_server.workers.process import Server, configuration
from tests.faults.running import free_port

pytestmark = pytest.mark.slow

PATIENT = b'{"resourceType":"Patient"}'


class Host:
    """A server on a socket of this process."""

    def __init__(self, domain: Domain, server: Server, port: int) -> None:
        self.domain = domain
        self.server = server
        self.port = port

    async def send(self, content: bytes) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        wire.writer.write(content)
        return wire

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")


class Wire:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def rest(self, seconds: float = 5) -> bytes:
        """What comes until the server closes; TimeoutError if it does not."""
        content = b""
        async with asyncio.timeout(seconds):
            try:
                while part := await self.reader.read(65_536):
                    content += part
            except ConnectionError:
                return content
        return content


@asynccontextmanager
async def hosted(**limits: Any) -> AsyncIterator[Host]:
    settings = replace(Settings(store="memory:"), head_seconds=1, stall_seconds=1, **limits)
    domain, port = await assemble(settings, MemoryStore()), free_port()
    async with serving(domain, open_=True) as application:
        server = Server(configuration(application, settings), asyncio.Event(), 0)
        task = asyncio.create_task(server.serve(sockets=list(listening("127.0.0.1", port))))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield Host(domain, server, port)
        finally:
            server.should_exit = server.force_exit = True
            await task


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def outcome(answer: bytes, status: int) -> dict[str, Any]:
    """The OperationOutcome of a raw answer."""
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 %d " % status), answer
    resource: dict[str, Any] = loads(body)
    assert resource["resourceType"] == "OperationOutcome"
    return resource["issue"][0]  # type: ignore[no-any-return]


async def test_r13_slow_heads_are_closed_and_others_unaffected() -> None:
    async with hosted() as host:
        silent = await host.send(b"")
        partial = await host.send(b"GET /fhir/metadata HTTP/1.1\r\nHost: local")
        trickle = await host.send(b"GET /fhir/metadata HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                trickle.writer.write(b"x: y\r\n")
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        started = time.monotonic()
        answers = await asyncio.gather(silent.rest(), partial.rest(), trickle.rest())
        assert time.monotonic() - started < 4
        dripping.cancel()
        assert answers[0] == b""
        assert outcome(answers[1], 408)["code"] == "timeout"
        assert (await host.get("/health")).status_code == 200


async def test_idle_connections_are_closed() -> None:
    async with hosted(idle_seconds=1) as host:
        wire = await host.send(head("GET", "/health"))
        assert (await wire.rest()).endswith(b"ready\n")


async def test_r13_a_slow_body_ends_with_the_request() -> None:
    async with hosted(request_seconds=1) as host:
        begun = head("POST", "/fhir/Patient", "Content-Type: application/fhir+json", LONG)
        slow = await host.send(begun + b"{")
        answer = await slow.rest(8)
        assert outcome(answer, 408)["code"] == "timeout"


LONG = "Content-Length: 1000"


async def test_t19_endless_headers() -> None:
    async with hosted(max_headers=4000, max_url=4000) as host:
        wire = await host.send(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000)
        assert outcome(await wire.rest(), 431)["code"] == "too-long"
        line = await host.send(b"GET /" + b"a" * 9000)
        assert outcome(await line.rest(), 431)["code"] == "too-long"


async def test_what_is_not_http() -> None:
    async with hosted() as host:
        for content in (b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
            assert outcome(await (await host.send(content)).rest(), 400)["code"] == "invalid"


async def test_r13_a_client_that_does_not_read() -> None:
    """Its connection is given up; the answer is not kept for ever."""
    async with hosted() as host:
        patient = {"resourceType": "Patient", "name": [{"text": "x" * 1_000_000}]}
        async with httpx.AsyncClient() as client:
            made = await client.post(f"http://127.0.0.1:{host.port}/fhir/Patient", json=patient)
        assert made.status_code == 201, made.text
        place = made.headers["location"].partition("/fhir/")[2].partition("/_history")[0]
        plain = socket.create_connection(("127.0.0.1", host.port))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.sendall(head("GET", f"/fhir/{place}") * 12)
        await asyncio.sleep(0.5)
        assert len(host.server.server_state.connections) == 1
        async with asyncio.timeout(5):
            while host.server.server_state.connections:
                await asyncio.sleep(0.1)
        plain.close()


def stuck(host: Host) -> Callable[[], None]:
    """Searches wait until the returned function is called."""
    run, free = host.domain.store.run, asyncio.Event()

    async def waiting(*arguments: Any) -> Any:
        await free.wait()
        return await run(*arguments)

    host.domain.store.run = waiting  # type: ignore[method-assign]
    return free.set


async def test_r12_beyond_the_limit_requests_are_refused_at_once() -> None:
    async with hosted(max_running=2) as host:
        free = stuck(host)
        running = [asyncio.create_task(host.get("/fhir/Patient")) for _ in range(2)]
        await asyncio.sleep(0.3)
        started = time.monotonic()
        refused = await host.get("/fhir/Patient")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json()["issue"][0]["code"] == "throttled"
        assert (await host.get("/health")).text == "ready\n"
        assert (await host.get("/metrics")).status_code == 200
        assert time.monotonic() - started < 1
        free()
        assert [a.status_code for a in await asyncio.gather(*running)] == [200, 200]
        assert (await host.get("/fhir/Patient")).status_code == 200


async def test_slow_bodies_take_no_places() -> None:
    async with hosted(max_running=2) as host:
        begun = head("POST", "/fhir/Patient", "Content-Type: application/fhir+json", LONG)
        slow = [await host.send(begun + b"{") for _ in range(6)]
        await asyncio.sleep(0.2)
        assert (await host.get("/fhir/metadata")).status_code == 200
        for wire in slow:
            wire.writer.close()


async def test_bodies_in_memory_are_bounded() -> None:
    async with hosted(max_held=500) as host:
        kind = "Content-Type: application/fhir+json"
        small = head("POST", "/fhir/Patient", kind, f"Content-Length: {len(PATIENT)}") + PATIENT
        large = head("POST", "/fhir/Patient", kind, LONG) + PATIENT + b" " * 974
        for content, status in ((small, b"201"), (large, b"503"), (small, b"201")):
            wire = await host.send(content)
            assert (await wire.reader.readline()).split()[1] == status
            wire.writer.close()


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit some may still ask how the server is."""
    async with hosted(max_connections=3) as host:
        kept = [await host.send(b"") for _ in range(3)]
        fourth = await host.send(head("GET", "/fhir/Patient"))
        assert outcome(await fourth.rest(), 503)["code"] == "throttled"
        assert (await host.get("/health")).status_code == 200
        monkeypatch.setattr(connection, "SPARE", 0)
        fifth = await host.send(b"")
        assert outcome(await fifth.rest(), 503)["code"] == "throttled"
        for wire in kept:
            wire.writer.close()
        await asyncio.sleep(0.1)
        assert (await host.get("/health")).status_code == 200
