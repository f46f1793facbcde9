"""Responses and problems as bytes on the wire: https://hl7.org/fhir/R4/http.html#Status-Codes"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Response
from fhir_server.model.problem import Problem

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

FHIR_JSON: Final = "application/fhir+json; charset=utf-8"


def rendered(problem: Problem) -> Response:
    """A problem as an OperationOutcome: the one place where that happens."""
    return Response(problem.status, dumps(problem.outcome()), dict(problem.headers))


WAY: Final = "vehr.way"
"""Where the scope of a connection holds its ``Way``."""

EDGE_LINES: Final = "vehr.lines"
"""Where a scope holds the lines that the edge adds to the head of a whole answer."""


class Way(Protocol):
    """The short way of one answer to its client, past the messages of ASGI."""

    def take(self, flush: Callable[[], None]) -> bool:
        """The answer goes this way, now or later. False: this connection cannot. ``flush``: sends
        what waits, which the connection calls before anything else goes over it.
        """
        ...

    @property
    def few(self) -> bool:
        """Are so few requests of this process under way that hardly any end together?"""
        ...

    def send(self, status: int, lines: bytes, body: bytes) -> None:
        """The whole of it at once: status, lines of its head, body."""
        ...


_SHORT: Final = frozenset({200, 201, 400, 401, 403, 404, 405, 409, 410, 412, 422})
_FHIR_JSON_LINE: Final = f"content-type: {FHIR_JSON}\r\ncontent-length: "
_OWN: Final = frozenset({"Content-Length", "Content-Security-Policy", "Cache-Control"})
"""Headers with which an answer goes its own way past those of the edge."""


async def deliver(response: Response, scope: Scope, send: Send) -> None:
    """Send one response; for HEAD its headers alone."""
    way = short_way(response, scope, _nothing)
    if way is not None:
        send_short(way, response, scope[EDGE_LINES])
        return
    headers = [(name.lower().encode(), _latin(value)) for name, value in response.headers.items()]
    body, head = response.body, scope["method"] == "HEAD"
    if isinstance(body, bytes):
        if body:
            headers.append((b"content-type", response.content_type.encode()))
        if response.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body})
        return
    headers.append((b"content-type", _latin(response.content_type)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if not head:
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def short_way(response: Response, scope: Scope, flush: Callable[[], None]) -> Way | None:
    """The short way, taken, for what most answers are: JSON that is whole. ``flush``: as in
    ``Way``.
    """
    way: Way | None = scope.pop(WAY, None)
    body = response.body
    if way is None or EDGE_LINES not in scope or scope["method"] == "HEAD":
        return None
    if response.status not in _SHORT or response.content_type != FHIR_JSON:
        return None
    if not body or not isinstance(body, bytes) or not _OWN.isdisjoint(response.headers):
        return None
    own = "".join(response.headers.values())
    if "\n" in own or "\r" in own or "\0" in own:
        return None  # a value would break out of its line: the long way mends it
    return way if way.take(flush) else None


def send_short(way: Way, response: Response, edge: str) -> None:
    """A response that has taken the short way. ``edge``: the lines of the edge."""
    body = response.body
    assert isinstance(body, bytes)
    own = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
    lines = f"{edge}{own}{_FHIR_JSON_LINE}{len(body)}\r\n"
    way.send(response.status, lines.encode("latin-1", "replace"), body)


def _nothing() -> None:
    """Nothing waits."""


def _latin(value: str) -> bytes:
    """A header value; what cannot stand in one is replaced."""
    return value.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
