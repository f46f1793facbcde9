"""The HTTP protocol of the server: uvicorn's, with a short way for an answer that is whole.

uvicorn looks at each header by itself, writes the head when an answer starts and the body when
it comes, and keeps a timer for every answer: a fifth of the cost of a read. A whole answer
goes past that in one write; idle connections are closed by the sweep that looks at all of
them (``workers.connection``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from fhir_server.http.respond import WRITE


class Protocol(HttpToolsProtocol):
    """What ``vehr serve`` hands to uvicorn. ``idle``: since when no request is under way."""

    idle: float | None = None
    _defaults: list[tuple[bytes, bytes]] | None = None
    _default_lines = b""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.idle = None
        cycle.scope[WRITE] = partial(self._write, cycle)  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    def _write(self, cycle: RequestResponseCycle, status: int, lines: bytes, body: bytes) -> bool:
        """Writes an answer at once (``respond.Write``)."""
        plain = cycle.keep_alive and not (cycle.disconnected or cycle.flow.write_paused)
        if not plain or cycle.response_started:
            return False
        if cycle.default_headers is not self._defaults:
            self._defaults = cycle.default_headers
            self._default_lines = b"".join([b"%b: %b\r\n" % pair for pair in self._defaults])
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        head = (STATUS_LINE[status], self._default_lines, lines, b"\r\n", body)
        cycle.transport.write(b"".join(head))
        cycle.message_event.set()
        cycle.on_response()
        return True

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
