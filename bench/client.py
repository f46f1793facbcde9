"""A small HTTP/1.1 load client: keep-alive connections, no library between load and socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, its body whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


class Connection:
    """One keep-alive connection to ``base``; requests are sent one after another."""

    def __init__(self, base: str, token: str | None) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._prefix = parts.path.rstrip("/")
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._headers = f"Host: {parts.netloc}\r\n{authorization}Accept: application/fhir+json\r\n"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Answer:
        """``headers``: further ones, each with its line end."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}{headers}"
        if body:
            head += f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        return await self._answer(self._reader)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        status = int(head[0].split(" ", 2)[1])
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunks(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return bytes(body)


Step = Callable[[Connection, int], Awaitable[None]]
"""One request of a workload: (connection, running number)."""


async def drive(
    base: str,
    token: str | None,
    step: Step,
    total: int,
    clients: int,
    seconds: float = inf,
) -> tuple[int, float]:
    """Run ``total`` steps, or as many as begin within ``seconds``, over ``clients`` connections;
    how many, and wall seconds."""
    numbers, done = iter(range(total)), 0
    connections = [Connection(base, token) for _ in range(clients)]
    start = time.perf_counter()

    async def client(connection: Connection) -> None:
        nonlocal done
        for number in numbers:
            await step(connection, number)
            done += 1
            if time.perf_counter() - start > seconds:
                return

    await asyncio.gather(*(client(connection) for connection in connections))
    wall = time.perf_counter() - start
    await asyncio.gather(*(connection.close() for connection in connections))
    return done, wall
