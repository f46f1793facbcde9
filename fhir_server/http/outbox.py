"""Answers that are ready: recorded, then sent, those of one turn of the event loop together.

Each line of the audit trail is a call of the system, and each answer wakes a client that waits for
it. Requests that came together are answered together: one write to the trail, and the clients are
woken in one go. Where few are under way, each is answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.access.audit.entry import Entry, Later
from fhir_server.access.audit.log import AuditLog
from fhir_server.http.respond import Way, rendered, send_short
from fhir_server.model.exchange import Response
from fhir_server.model.problem import Unavailable

TOGETHER: Final = 16
"""Answers after which those that wait are sent, so that nobody waits for many others."""


@dataclass(slots=True)
class Ready:
    """An answer that has taken the short way. ``edge``: lines of its head. ``told``: called with
    the status that was sent. ``line``: what is recorded before it is sent, if anything.
    """

    way: Way
    edge: str
    response: Response
    told: Callable[[int], None]
    line: Entry | None = None
    later: Sequence[Later] = ()


class Outbox:
    """Of one FHIR base. ``audit`` None: it is open to everybody, and nothing is recorded."""

    def __init__(self, audit: AuditLog | None) -> None:
        self._audit = audit
        self._ready: list[Ready] = []

    def post(self, ready: Ready, soon: Callable[[Callable[[], None]], object]) -> None:
        """``soon``: calls what it is given once this turn of the loop is over."""
        self._ready.append(ready)
        if ready.way.few or len(self._ready) >= TOGETHER:
            self.flush()
        elif len(self._ready) == 1:
            soon(self.flush)

    def flush(self) -> None:
        """Records and sends what waits. What cannot be recorded is not answered."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        problem: Unavailable | None = None
        lines = [(one.line, one.later) for one in ready if one.line is not None]
        if lines and self._audit is not None:
            try:
                self._audit.write_all(lines)
            except Unavailable as failure:
                problem = failure
        for one in ready:
            response = one.response
            if problem is not None and one.line is not None:
                response = rendered(problem)
            send_short(one.way, response, one.edge)
            one.told(response.status)
