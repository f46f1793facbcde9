"""Care relationships: who may reach which patient, and from when to when.

A row, not a flag: it has a start and an end, and what has ended is kept.
"""

from __future__ import annotations

import re
from calendar import isleap
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.auth.records import Records
from fhir_server.model.problem import BadRequest, NotFound
from fhir_server.model.resource import ID_PATTERN

KIND: Final = "relation"
FOREVER: Final = float("inf")
_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Relation:
    """``kind``: registration, referral, episode, care-team, delegate (who acts for the patient: a
    parent, a guardian), … ``start`` and ``end``: epoch seconds; in force from ``start`` to before
    ``end``.
    """

    user: str
    patient: str
    kind: str
    start: float
    end: float = FOREVER

    def holds(self, now: float) -> bool:
        return self.start <= now < self.end


class Relations:
    """Relationship rows, by user, patient and kind."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def add(self, relation: Relation) -> None:
        """Begin or renew a relationship. BadRequest for what cannot be one."""
        if ID_PATTERN.fullmatch(relation.patient) is None:
            raise BadRequest(f"{relation.patient!r} is not the id of a patient")
        if _WORD.fullmatch(relation.kind) is None:
            raise BadRequest(f"{relation.kind!r} cannot be a kind of relationship")
        if relation.end <= relation.start:
            raise BadRequest("the relationship would end before it begins")
        await self._records.commit_policy(_write(relation))

    async def end(self, user: str, patient: str, kind: str = "") -> list[Relation]:
        """End what holds now, of one kind or of all; NotFound if nothing does."""
        now = self._records.now()
        ended = [
            Relation(r.user, r.patient, r.kind, r.start, max(now, r.start))
            for r in await self.of(user)
            if r.patient == patient and kind in ("", r.kind) and r.end > now
        ]
        if not ended:
            raise NotFound(f"{user!r} has no such relationship with {patient!r}")
        await self._records.commit_policy(*map(_write, ended))
        return ended

    async def of(self, user: str) -> list[Relation]:
        """All of a user, also what has ended or is yet to begin."""
        return [_relation(row) for row in await self._records.scan(KIND, f"{user}/")]

    async def all(self) -> list[Relation]:
        return [_relation(row) for row in await self._records.scan(KIND)]


def birthday(born: str, age: int, zone: str) -> float:
    """The epoch second at which somebody becomes so old; of a birth date that is not whole, the
    earliest that it could be. BadRequest without one.
    """
    try:
        year, month, day = (int(part) for part in f"{born}-01-01"[:10].split("-"))
        # Who is born on 29 February is of age on 1 March of other years.
        leap = (month, day) == (2, 29) and not isleap(year + age)
        found = date(year + age, 3, 1) if leap else date(year + age, month, day)
    except ValueError:
        raise BadRequest("the patient has no birth date to count from") from None
    return datetime(found.year, found.month, found.day, tzinfo=ZoneInfo(zone)).timestamp()


def _write(relation: Relation) -> LedgerWrite:
    key = f"{relation.user}/{relation.patient}/{relation.kind}"
    end = None if relation.end == FOREVER else relation.end
    return LedgerWrite(KIND, key, {"start": relation.start, "end": end})


def _relation(row: Row) -> Relation:
    user, patient, kind = row.key.split("/")
    end = row.value["end"]
    return Relation(user, patient, kind, row.value["start"], FOREVER if end is None else end)
