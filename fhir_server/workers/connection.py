"""One HTTP connection, with limits on how long and how much a client may keep it waiting.

The HTTP parser itself bounds neither: a client that sends a header a minute, headers without
end, or never takes its answer would hold its connection for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from fhir_server.formats.json import dumps
from fhir_server.http.admission import ALWAYS, RETRY_SECONDS
from fhir_server.http.protocol import Protocol
from fhir_server.http.respond import FHIR_JSON, Receive, Scope, Send, deliver, rendered
from fhir_server.model.problem import Issue, Unavailable, outcome

FULL: Final = "the server has as many connections as it can serve"
SLOW: Final = "the request did not arrive in time"
LONG: Final = "the URL and the headers are too long"
MALFORMED: Final = "this is not HTTP"
SPARE: Final = 32
"""Connections beyond the limit that may ask how the server is, and nothing else."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one worker. ``head``: bytes of a request line with its headers. Times in seconds:
    for a head to arrive, and for a client to take some of its answer.
    """

    connections: int
    head: int
    head_seconds: float
    stall_seconds: float


class LimitedConfig(Config):
    """The configuration of uvicorn, with what its connections need."""

    limits: Limits


class Connection(Protocol):
    """``arriving``: time of the loop since when a head is awaited, or the rest of a body
    that nobody reads. ``stalled``: since when the client takes nothing.
    """

    config: LimitedConfig
    arriving: float | None = None
    stalled: float | None = None
    _in_head = True
    _whole = True
    _taken = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.arriving = self.loop.time()
        beyond = len(self.connections) - self.config.limits.connections
        if beyond > SPARE:
            self.refuse(503, "throttled", FULL, b"retry-after: 1\r\n")
        elif beyond > 0:
            self.app = self._spare

    async def _spare(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application of a connection too many."""
        if scope["raw_path"] in ALWAYS:
            await self.config.loaded_app(scope, receive, send)
        else:
            headers = {"Retry-After": RETRY_SECONDS, "Connection": "close"}
            busy = Unavailable(FULL, code="throttled", headers=headers)
            await deliver(rendered(busy), scope, send)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._taken += len(data)
            if self._taken > self.config.limits.head and not self.transport.is_closing():
                self.refuse(431, "too-long", LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.arriving = self.loop.time()
        self._in_head, self._whole, self._taken = True, False, 0

    def on_headers_complete(self) -> None:
        self.arriving, self._in_head = None, False
        if self.url[:1] != b"/" and b"://" in self.url:
            self._take_host()
        super().on_headers_complete()

    def _take_host(self) -> None:
        """A target that is a whole URL names the host, not the header (RFC 9112 3.2.2)."""
        rest = self.url.partition(b"://")[2]
        host = rest.partition(b"/")[0].partition(b"?")[0]
        self.headers[:] = [*(pair for pair in self.headers if pair[0] != b"host"), (b"host", host)]

    def on_message_complete(self) -> None:
        self.arriving, self._whole = None, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole:
            self.arriving = self.loop.time()

    def pause_writing(self) -> None:
        self.stalled = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "invalid", MALFORMED)

    def refuse(self, status: int, code: str, text: str, header: bytes = b"") -> None:
        """Answer without the application, and close."""
        if self.waiting is not None:
            self.waiting()  # what was asked before is answered first
        body = dumps(outcome((Issue(code, text),)))
        head = b"content-type: %s\r\ncontent-length: %d\r\n" % (FHIR_JSON.encode(), len(body))
        parts = (STATUS_LINE[status], head, header, b"connection: close\r\n\r\n", body)
        self.transport.write(b"".join(parts))
        self.transport.close()

    def check(self, now: float) -> None:
        """Close what has kept the server waiting for too long."""
        limits = self.config.limits
        if self.transport.is_closing():
            if self.stalled is not None and now - self.stalled > limits.stall_seconds:
                self.transport.abort()
        elif self.stalled is not None and now - self.stalled > limits.stall_seconds:
            self.transport.abort()
        elif self.arriving is not None:
            if now - self.arriving > limits.head_seconds:
                self._too_slow()
        elif self.idle is not None and now - self.idle > self.timeout_keep_alive:
            self.transport.close()

    def _too_slow(self) -> None:
        answered: Any = self.cycle
        if self._taken and self._in_head and (answered is None or answered.response_complete):
            self.refuse(408, "timeout", SLOW)
        else:
            self.transport.abort()
