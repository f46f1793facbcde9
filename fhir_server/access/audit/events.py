"""Lines as AuditEvents, in the shape of IHE BALP (https://profiles.ihe.net/ITI/BALP/).

One event for each patient, so that what one of them may see names no other; then one for each
decision on consent.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from fhir_server.access.audit.authorised import decision_event
from fhir_server.access.audit.entry import DECIDED, Decision, Entry
from fhir_server.access.audit.pieces import View
from fhir_server.access.audit.requests import request_event
from fhir_server.model.exchange import Json


class Part(NamedTuple):
    """One of the events of a line: of a patient, or of nobody; or of a decision."""

    patient: str | None
    decision: Decision | None = None


def parts_of(entry: Entry) -> list[Part]:
    """What events a line makes."""
    found: list[Part] = []
    if entry.interaction != DECIDED:
        found += [Part(patient) for patient in entry.patients or (None,)]
    return [*found, *(Part(one.patient, one) for one in entry.decisions)]


def suffix(part: Part) -> str:
    """The end of the id of an event, of which the line is the beginning. It tells nothing of how
    many events a line has.
    """
    if part.patient is None and part.decision is None:
        return "0"
    said = repr(tuple(part)).replace(", private=False)", ")")  # ids that are older than the member
    return blake2b(said.encode(), digest_size=5).hexdigest()


def audit_events(entry: Entry, base: str) -> list[Json]:
    """All events of a line, for who audits."""
    view = View(base)
    return [event_of(entry, part, view) for part in parts_of(entry)]


def event_of(entry: Entry, part: Part, view: View) -> Json:
    """One event; without an id."""
    if part.decision is not None:
        return decision_event(entry, part.decision, view)
    return request_event(entry, part.patient, view)
