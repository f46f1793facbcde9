"""Requests handed to the application as they are: a tenth of what a client library costs, for
suites that send hundreds of thousands."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tests.serving import BASE, FHIR_JSON, Server

Reading = Callable[[bytes], Awaitable[None]]
HOST: Final = (b"host", b"127.0.0.1:8080")


@dataclass(frozen=True, slots=True)
class Plain:
    """What was answered, with the names of ``httpx.Response``."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


def sent(
    server: Server, method: str, url: str, headers: dict[str, str], content: bytes = b""
) -> Plain:
    """``url``: relative to the FHIR base, or absolute; with its query, percent-encoded."""
    return server.run(answered(server, method, url, headers, content))


async def answered(
    server: Server,
    method: str,
    url: str,
    headers: dict[str, str],
    content: bytes = b"",
    reading: Reading | None = None,
) -> Plain:
    """The same within the server's loop. ``reading``: takes each part of the body before the next
    one is made."""
    parts = urlsplit(url if url.startswith("http:") else f"{BASE}/{url}")
    given = {"accept": "*/*", **{name.lower(): value for name, value in headers.items()}}
    if content:
        given = {"content-type": FHIR_JSON, "content-length": str(len(content)), **given}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [HOST, *((n.encode(), v.encode("latin-1")) for n, v in given.items())],
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 123),
    }
    asked = [{"type": "http.request", "body": content, "more_body": False}]
    status, received, body = 0, dict[str, str](), list[bytes]()

    async def receive() -> dict[str, Any]:
        return asked.pop() if asked else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, received
        if message["type"] == "http.response.start":
            status = message["status"]
            received = {n.decode().lower(): v.decode("latin-1") for n, v in message["headers"]}
        elif message["type"] == "http.response.body" and (part := message.get("body", b"")):
            body.append(part)
            if reading is not None:
                await reading(part)

    await server.app(scope, receive, send)
    return Plain(status, received, b"".join(body))
