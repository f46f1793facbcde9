"""Breaking the glass: the data of one patient in an emergency, although consents deny it or there
is no relationship.

A request states the purpose BTG and a reason, and names one patient. The first one for a patient is
an act: it holds for some minutes, commits with a message to the patient and with a review to be
done, and each patient needs an act of its own. It is for reading alone; scopes bind it, and what a
patient denies also then stays denied (``consent/decision.at_last``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.audit.entry import Recording
from fhir_server.access.drafts import Draft
from fhir_server.access.engine import Engine
from fhir_server.access.policy import PermitAll
from fhir_server.access.principal import Principal
from fhir_server.access.roles import REVIEW, Standing
from fhir_server.access.scopes import Scope
from fhir_server.access.session import Session
from fhir_server.definitions.guide import profile
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Forbidden, Unavailable
from fhir_server.model.resource import Key
from fhir_server.store.ledger import LedgerWrite, Row

KIND: Final = "break-glass"
"""Of the rows of the ledger, ``user/patient``: one per act."""
MINUTES: Final = 60
"""The longest that an act may hold."""
LONGEST: Final = 500
"""Characters of a reason."""
READS: Final = frozenset({"GET", "HEAD"})
INSTANCES: Final = frozenset(
    {"read", "read-binary", "vread", "vread-binary", "history-instance"},
)
"""Interactions with one resource: of the patients for whom the glass is broken already."""
_NAMING: Final = frozenset({"patient", "subject", "patient:Patient", "subject:Patient"})
_PATIENT: Final = re.compile(r"(?:.*/)?Patient/([A-Za-z0-9\-.]{1,64})")
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with a purpose, as far as it has been read. ``path``: captured segments.
    ``known``: is told whose it is, before anything is done for it; it may refuse."""

    method: str
    interaction: str
    path: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    reason: str
    recording: Recording | None = None
    known: Callable[[Principal], None] = lambda _: None


class BreakGlass:
    """``minutes``: how long an act holds; 0: nobody breaks the glass here."""

    def __init__(self, engine: Engine, minutes: int = MINUTES) -> None:
        self._engine = engine
        self._minutes = min(minutes, MINUTES)

    async def broken(self, user: str, standing: Standing | None, asked: Asked) -> frozenset[str]:
        """The patients for whom this request breaks the glass.

        Forbidden without the right to it, or for anything but reading; BadRequest without a
        reason, or if the request names no patient, or several.
        """
        if standing is None or not (standing.rights.breaks_glass and self._minutes):
            raise Forbidden("not permitted: break the glass")
        if asked.method not in READS:
            raise Forbidden("not permitted: the glass is broken to read, by GET")
        reason = asked.reason.strip()
        if not reason or len(reason) > LONGEST or not reason.isprintable():
            raise BadRequest(f"X-Break-Glass-Reason says why, in up to {LONGEST} characters")
        if asked.interaction in INSTANCES and asked.path[0] != "Patient":
            return await self._open(user)
        patients = named(asked.path, asked.query)
        if len(patients) != 1 or not all(map(_ID.fullmatch, patients)):
            raise BadRequest("the glass is broken for the one patient that the request names")
        [patient] = patients
        opened = await self._act(user, standing, patient, reason, asked.recording)
        return frozenset({patient}) if opened else frozenset()

    async def _open(self, user: str) -> frozenset[str]:
        """A resource names nobody before it has been seen: acts that hold decide."""
        rows = await self._engine.store.ledger.scan(KIND, f"{user}/")
        found = frozenset(
            row.value["patient"] for row in rows if row.value["user"] == user and self._holds(row)
        )
        if not found:
            raise BadRequest("the glass is broken for the one patient that the request names first")
        return found

    async def holding(self, user: str, standing: Standing | None, patients: Iterable[str]) -> bool:
        """Has this user the right still, and does an act hold for each of the patients?"""
        if standing is None or not standing.rights.breaks_glass:
            return False
        rows = [await self._engine.store.ledger.get(KIND, f"{user}/{one}") for one in patients]
        return all(map(self._holds, rows))

    def _holds(self, row: Row | None) -> bool:
        return row is not None and bool(row.value["until"] > self._engine.now())

    async def _act(
        self,
        user: str,
        standing: Standing,
        patient: str,
        reason: str,
        recording: Recording | None,
    ) -> bool:
        """Is there an act, or was one made? Not for a patient who is not there."""
        ledger, key = self._engine.store.ledger, f"{user}/{patient}"
        row = await ledger.get(KIND, key)
        if self._holds(row):
            return True
        [stored] = await self._engine.store.current([Key("Patient", patient)])
        if stored is None or stored.deleted:
            return False
        begun = self._engine.now()
        until = begun + self._minutes * 60_000_000
        value = {"user": user, "patient": patient, "reason": reason, "from": begun, "until": until}
        act = LedgerWrite(KIND, key, value, expect=row.revision if row is not None else 0)
        drafts = [
            Draft("POST", Key(told["resourceType"], self._engine.new_id()), told)
            for told in (
                message(patient, standing, begun),
                review(patient, user, standing, reason, begun, until),
            )
        ]
        try:
            await self._session(recording).write(drafts, (act,))
        except Unavailable:
            # Another request of the same user may have been first.
            if not self._holds(await ledger.get(KIND, key)):
                raise
        return True

    def _session(self, recording: Recording | None) -> Session:
        own = Principal(id=f"system:{KIND}", system=True)
        return Session(self._engine, own, PermitAll(), recording)


def named(path: tuple[str, ...], query: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The patients that a request names: ``Patient/id`` in its path, ``patient`` or ``subject`` in
    its query, or ``_id`` of a search for patients. What names something else counts as one more.
    """
    return frozenset(_named(path, query))


def _named(path: tuple[str, ...], query: Iterable[tuple[str, str]]) -> Iterator[str]:
    of_patients = path[:1] == ("Patient",)
    if of_patients and len(path) > 1 and _ID.fullmatch(path[1]):
        yield path[1]
    for name, value in query:
        if name in _NAMING or (of_patients and name == "_id"):
            for one in value.split(","):
                found = _PATIENT.fullmatch(one)
                yield found[1] if found else one


def only_reading(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """What scopes are good for once the glass is broken."""
    return tuple(
        replace(scope, letters="".join(letter for letter in scope.letters if letter in "rs"))
        for scope in scopes
    )


def message(patient: str, standing: Standing, at: int) -> Json:
    """To the patient, without anything clinical."""
    told: Json = {
        "resourceType": "Communication",
        "meta": profile("break-glass-message"),
        "status": "completed",
        "category": [_concept("urn:vehr:communication", KIND)],
        "subject": {"reference": f"Patient/{patient}"},
        "recipient": [{"reference": f"Patient/{patient}"}],
        "sent": format_instant(at),
        "payload": [
            {
                "contentString": "In an emergency, somebody who treats you has opened your record"
                " beyond what you permit. You can see who it was, and what was read, in the list"
                " of those who saw your data. It will be reviewed."
            }
        ],
    }
    return told | _who("sender", standing)


def review(
    patient: str, user: str, standing: Standing, reason: str, begun: int, until: int
) -> Json:
    """For who reviews it. The patient is also named by id alone, for those who see no patients."""
    said = {"patient": patient, "user": user, "role": standing.role, "reason": reason}
    task: Json = {
        "resourceType": "Task",
        "meta": profile("break-glass-review"),
        "status": "requested",
        "intent": "order",
        "code": _concept(*REVIEW),
        "description": "Somebody has broken the glass: was it right?",
        "for": {"reference": f"Patient/{patient}"},
        "authoredOn": format_instant(begun),
        "executionPeriod": {"start": format_instant(begun), "end": format_instant(until)},
        "performerType": [{"text": "administrator or privacy officer"}],
        "input": [{"type": {"text": name}, "valueString": text} for name, text in said.items()],
    }
    return task | _who("requester", standing)


def _who(element: str, standing: Standing) -> Json:
    return {element: {"reference": standing.fhir_user}} if standing.fhir_user else {}


def _concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}
