"""What the authorization server tells of logins, tokens and administration, in the audit trail."""

from __future__ import annotations

from typing import Final

from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.log import AuditLog
from fhir_server.auth.ports import SecurityEvent
from fhir_server.model.fresh import micros

GRANTED: Final = 200
UNKNOWN: Final = 401
"""Who was not let in."""
REFUSED: Final = 403
_LETTING_IN: Final = frozenset({"login", "second-factor", "lockout", "token", "refresh"})


class SecurityTrail:
    """A ``SecurityLog``: a line for each event, before it is answered; Unavailable without it."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def record(self, event: SecurityEvent) -> None:
        self._audit.write(line_of(event))


def line_of(event: SecurityEvent) -> Entry:
    """The line of an event."""
    status = GRANTED
    if event.outcome == "refused":
        status = UNKNOWN if event.what in _LETTING_IN else REFUSED
    return Entry(
        at=micros(),
        request=event.request,
        interaction=event.what,
        method="",
        status=status,
        client=event.client,
        user=event.user,
        peer=event.address,
        patients=(event.patient,) if event.patient else (),
        why=event.reason,
        target=event.target,
    )
