"""Unauthorised access: what of the trail somebody should look at.

Failed logins, lockouts, refusals, access outside of working hours, emergency access (break-glass)
and users who opened unusually many patients in a day. It counts; what it means a person says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, time, tzinfo
from statistics import median
from typing import Final, Literal

from fhir_server.access.audit.codes import act_of
from fhir_server.access.audit.entry import Entry
from fhir_server.model.datatypes import format_instant

Kind = Literal[
    "failed-login", "lockout", "denied", "off-hours", "break-glass", "many-patients", "admin"
]
DENIED: Final = frozenset({401, 403})
LOGINS: Final = frozenset({"login", "second-factor"})
BREAK_GLASS: Final = "BTG"
SATURDAY: Final = 5
TIMES: Final = 3
"""So many times the patients of the middle user of a day are unusual, from ``FEWEST`` on."""
FEWEST: Final = 20


@dataclass(frozen=True, slots=True)
class Rules:
    """``begin``, ``end``: working hours on weekdays, in ``zone``. ``patients``: so many patients
    of one user in a day are reported in any case.
    """

    zone: tzinfo
    begin: time = time(7)
    end: time = time(20)
    patients: int = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """``who``: a user or client, with the address where nobody was known. ``patients``: how many
    were concerned. ``first``, ``last``: microseconds.
    """

    kind: Kind
    who: str
    count: int
    patients: int
    first: int
    last: int
    detail: str

    def members(self) -> dict[str, str | int]:
        """As JSON."""
        first, last = format_instant(self.first), format_instant(self.last)
        return asdict(self) | {"first": first, "last": last}


@dataclass(slots=True)
class _Sum:
    count: int = 0
    first: int = 2**62
    last: int = 0
    patients: set[str] = field(default_factory=set)
    details: dict[str, None] = field(default_factory=dict)


SHOWN: Final = 3
"""Reasons that a finding names."""


class Report:
    """Takes lines in any order."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._sums: dict[tuple[Kind, str], _Sum] = defaultdict(_Sum)
        self._days: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._moments: dict[tuple[str, str], tuple[int, int]] = {}
        self.lines = 0

    def take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        self.lines += 1
        for kind, detail in self._kinds(entry):
            self._count(kind, entry, detail)
        if entry.user and entry.patients and not entry.refused and not act_of(entry.interaction):
            self._opened(entry)

    def _kinds(self, entry: Entry) -> Iterable[tuple[Kind, str]]:
        if entry.interaction in LOGINS and entry.refused:
            yield "failed-login", entry.why
        elif entry.interaction == "lockout":
            yield "lockout", entry.why
        elif entry.status in DENIED:
            yield "denied", entry.why
        if entry.interaction == "admin" or entry.interaction.startswith("command-"):
            yield "admin", " ".join(filter(None, (entry.why, entry.target or entry.interaction)))
        if entry.purpose == BREAK_GLASS:
            yield "break-glass", entry.what or entry.interaction
        if entry.user and entry.patients and self._off_hours(entry):
            yield "off-hours", entry.role

    def _off_hours(self, entry: Entry) -> bool:
        if act_of(entry.interaction) or entry.refused or entry.role in ("patient", ""):
            return False
        moment = datetime.fromtimestamp(entry.at / 1e6, self._rules.zone)
        if moment.weekday() >= SATURDAY:
            return True
        return not self._rules.begin <= moment.time() < self._rules.end

    def _count(self, kind: Kind, entry: Entry, detail: str) -> None:
        found = self._sums[kind, who(entry)]
        found.count += 1
        found.first, found.last = min(found.first, entry.at), max(found.last, entry.at)
        found.patients.update(entry.patients)
        if detail and len(found.details) < SHOWN:
            found.details[detail] = None

    def _opened(self, entry: Entry) -> None:
        day = datetime.fromtimestamp(entry.at / 1e6, self._rules.zone).date().isoformat()
        self._days[day][entry.user].update(entry.patients)
        first, last = self._moments.get((day, entry.user), (entry.at, entry.at))
        self._moments[day, entry.user] = min(first, entry.at), max(last, entry.at)

    def findings(self) -> list[Finding]:
        """By kind, the most first."""
        found = [
            Finding(kind, name, s.count, len(s.patients), s.first, s.last, "; ".join(s.details))
            for (kind, name), s in self._sums.items()
        ]
        found += self._many()
        return sorted(found, key=lambda one: (one.kind, -one.count, one.who))

    def _many(self) -> Iterable[Finding]:
        for day, users in self._days.items():
            usual = median(len(patients) for patients in users.values())
            limit = min(self._rules.patients, max(FEWEST, TIMES * usual))
            for user, patients in users.items():
                count = len(patients)
                if count > limit:
                    detail = f"{day}: {count} patients; the middle user has {usual:g}"
                    moments = self._moments[day, user]
                    yield Finding("many-patients", user, count, count, *moments, detail)


def who(entry: Entry) -> str:
    """A user by a client, a client, or an address."""
    if entry.user:
        return entry.user
    return entry.client or f"unknown at {entry.peer or 'no address'}"


def table(findings: Iterable[Finding]) -> str:
    """For people: one line each, a heading above."""
    heads = ("kind", "who", "count", "patients", "first", "last", "detail")
    rows = [heads, *(tuple(str(v) for v in one.members().values()) for one in findings)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(heads) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join((*cells, row[-1])).rstrip())
    return "\n".join(lines)
