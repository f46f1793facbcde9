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


async def deliver(response: Response, send: Send, *, head: bool = False) -> None:
    """Send one response; ``head``: its headers alone."""
    headers = [(name.lower().encode(), _latin(value)) for name, value in response.headers.items()]
    body = response.body
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


def _latin(value: str) -> bytes:
    """A header value; what cannot stand in one is replaced."""
    return value.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
