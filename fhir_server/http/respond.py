"""Responses and problems as bytes on the wire: https://hl7.org/fhir/R4/http.html#Status-Codes"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

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


WRITE: Final = "vehr.write"
"""Where the scope of a connection holds its ``Write``."""

EDGE_LINES: Final = "vehr.lines"
"""Where a scope holds the lines that the edge adds to the head of a whole answer."""

Write = Callable[[int, bytes, bytes], bool]
"""Writes a whole answer at once: status, lines of its head, body. False: this connection
cannot, the messages of ASGI are to be used.
"""

_SHORT: Final = frozenset({200, 201, 400, 401, 403, 404, 405, 409, 410, 412, 422})
_FHIR_JSON_LINE: Final = f"content-type: {FHIR_JSON}\r\ncontent-length: "
_OWN: Final = ("Content-Length", "Content-Security-Policy", "Cache-Control")
"""Headers with which an answer goes its own way past those of the edge."""


async def deliver(response: Response, scope: Scope, send: Send) -> None:
    """Send one response; for HEAD its headers alone."""
    if _written(response, scope):
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


def _written(response: Response, scope: Scope) -> bool:
    """The short way, for what most answers are: JSON that is whole."""
    write: Write | None = scope.pop(WRITE, None)
    edge: str | None = scope.get(EDGE_LINES)
    body, headers = response.body, response.headers
    if write is None or edge is None or scope["method"] == "HEAD" or not isinstance(body, bytes):
        return False
    if response.status not in _SHORT or response.content_type != FHIR_JSON or not body:
        return False
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if name not in _OWN]
    if len(lines) < len(headers):
        return False
    own = "".join(lines)
    if not own.count("\n") == own.count("\r") == len(lines) or "\0" in own:
        return False  # a value would break out of its line: the long way mends it
    text = f"{edge}{own}{_FHIR_JSON_LINE}{len(body)}\r\n"
    return write(response.status, text.encode("latin-1", "replace"), body)


def _latin(value: str) -> bytes:
    """A header value; what cannot stand in one is replaced."""
    return value.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
