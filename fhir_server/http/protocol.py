"""The HTTP protocol of the server: uvicorn's, with an answer that is whole in one write.

uvicorn looks at each header by itself and writes the head when an answer starts, the body
when it comes: two system calls and twenty searches for an answer that is already there.
They are a fifth of the cost of a read.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from fhir_server.http.respond import Message

_LENGTH: Final = b"content-length"
_CONNECTION: Final = frozenset({b"connection", b"transfer-encoding"})
"""Headers that uvicorn has to know of."""


def head_of(status: int, headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The head of an answer; None if a header could break out of its line."""
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    head = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
    ends = len(lines) + 2
    sound = head.count(b"\n") == head.count(b"\r") == ends and b"\0" not in head
    return head if sound else None


class Whole:
    """The ``send`` of one request. The start of an answer waits for what comes next: a body
    that is complete goes out with it, everything else goes uvicorn's way.
    """

    __slots__ = ("_cycle", "_send", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send: Any = cycle.send
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if self._at_once(start, message):
                return
            await self._send(start)
        await self._send(message)

    def _at_once(self, start: Message, message: Message) -> bool:
        cycle = self._cycle
        plain = cycle.keep_alive and not (cycle.disconnected or cycle.flow.write_paused)
        if not plain or cycle.response_started or message.get("more_body"):
            return False
        headers, body = start["headers"], message.get("body", b"")
        named = dict(headers)
        if named.get(_LENGTH) != b"%d" % len(body) or not _CONNECTION.isdisjoint(named):
            return False
        head = head_of(start["status"], [*cycle.default_headers, *headers])
        if head is None or cycle.scope["method"] == "HEAD":
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(head + body)
        cycle.message_event.set()
        cycle.on_response()
        return True


class Protocol(HttpToolsProtocol):
    """What ``vehr serve`` hands to uvicorn."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.send = Whole(cycle).send  # type: ignore[assignment,method-assign]
        super()._start_asgi_task(cycle, app)
