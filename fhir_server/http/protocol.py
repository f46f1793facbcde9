"""The HTTP protocol of the server: uvicorn's, with a short way for an answer that is whole.

uvicorn looks at each header by itself, writes the head when an answer starts and the body when
it comes, and keeps a timer for every answer: a fifth of the cost of a read. A whole answer
goes past that in one write; idle connections are closed by the sweep that looks at all of
them (``workers.connection``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from fhir_server.http.respond import WAY

FEW: Final = 8
"""Requests up to which each is answered at once: it would wait for the turns of others, which may
be long, and the gain is small."""


class Protocol(HttpToolsProtocol):
    """What ``vehr serve`` hands to uvicorn. ``idle``: since when no request is under way.
    ``waiting``: sends the answer that has taken the short way and is not sent yet.
    """

    idle: float | None = None
    waiting: Callable[[], None] | None = None
    _defaults: list[tuple[bytes, bytes]] | None = None
    _default_lines = b""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.waiting is not None:
            self.waiting()  # an answer never overtakes the one before it
        self.idle = None
        cycle.scope[WAY] = _Whole(self, cycle)  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        if self.waiting is not None:
            self.waiting()
        super().shutdown()

    def default_lines(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """Those of every answer, written once as long as they are the same."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join([b"%b: %b\r\n" % pair for pair in defaults])
        return self._default_lines

    def on_response_complete(self) -> None:
        """As uvicorn's, with a time in place of a timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle = self.loop.time()


class _Whole:
    """The short way of one request (``respond.Way``)."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: Protocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def take(self, flush: Callable[[], None]) -> bool:
        cycle = self._cycle
        plain = cycle.keep_alive and not (cycle.disconnected or cycle.flow.write_paused)
        if not plain or cycle.response_started:
            return False
        # uvicorn looks at these when the application returns.
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._protocol.waiting = flush
        return True

    @property
    def few(self) -> bool:
        return len(self._protocol.tasks) <= FEW

    def send(self, status: int, lines: bytes, body: bytes) -> None:
        protocol, cycle = self._protocol, self._cycle
        protocol.waiting = None
        defaults = protocol.default_lines(cycle.default_headers)
        if not cycle.transport.is_closing():
            head = (STATUS_LINE[status], defaults, lines, b"\r\n", body)
            cycle.transport.write(b"".join(head))
        cycle.message_event.set()
        protocol.on_response_complete()
