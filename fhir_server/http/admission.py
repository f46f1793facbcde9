"""Admission: how much one worker takes on at a time.

A request counts while the server works on it, not while it waits for bytes of its client, so
slow clients cannot use up the places. What cannot be taken on is refused at once with 503 and
Retry-After: late answers to everyone help nobody.
"""

from __future__ import annotations

from typing import Final

from fhir_server.http.respond import Message, Receive, Send
from fhir_server.model.problem import TooLarge, Unavailable

ALWAYS: Final = frozenset({b"/health", b"/metrics"})
"""Paths that are answered however much there is to do."""

RETRY_SECONDS: Final = "1"


class Admission:
    """``most_running``: requests at a time; ``most_held``: bytes of bodies in memory."""

    def __init__(self, most_running: int, most_held: int) -> None:
        self.running = 0
        self.held = 0
        self._most_running = most_running
        self._most_held = most_held

    def enter(self) -> Place:
        """A place for one request, to be left in any case. Raises Unavailable."""
        if self.running >= self._most_running:
            raise _busy()
        self.running += 1
        return Place(self)

    def resume(self, held: int) -> None:
        """A body has arrived: its request is worked on again."""
        self.held += held
        if self.held > self._most_held or self.running > self._most_running:
            raise _busy()


class Place:
    """The place of one request."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    def receiving(self, receive: Receive, limit: int, *, streamed: bool) -> Receive:
        """A receive that raises TooLarge beyond ``limit`` bytes. ``streamed``: nobody keeps
        the body in memory.
        """
        admission, taken = self._admission, 0

        async def receive_counted() -> Message:
            nonlocal taken
            admission.running -= 1
            try:
                message = await receive()
            finally:
                admission.running += 1
            size = len(message.get("body", b""))
            taken += size
            if taken > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
            if size and not streamed:
                self._held += size
                admission.resume(size)
            return message

        return receive_counted

    def hold(self, size: int) -> None:
        """Bytes that this request keeps until it is done. Raises Unavailable."""
        self._held += size
        self._admission.resume(size)

    def sending(self, send: Send) -> Send:
        """A send that gives the place away while the client takes its answer."""
        admission = self._admission

        async def send_aside(message: Message) -> None:
            admission.running -= 1
            try:
                await send(message)
            finally:
                admission.running += 1

        return send_aside

    def leave(self) -> None:
        self._admission.running -= 1
        self._admission.held -= self._held


def _busy() -> Unavailable:
    text = "the server has more to do than it can: try again soon"
    return Unavailable(text, code="throttled", headers={"Retry-After": RETRY_SECONDS})
