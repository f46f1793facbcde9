"""The data set of a specification, read from the record by the code that ``$predict`` reads with.

For each patient and each moment of the index rule: the features as they were known then, and
whether the outcome came after. What cannot be used is counted by its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.datatypes import PAST, format_instant, parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Gone, NotFound, Problem, Unprocessable
from fhir_server.search.plan import All, Scan, Search

from ..evidence import Evidence, Moment, collect, when
from ..inference import Inference, Question, infer, looked_up, needed
from ..kinds import years_between
from ..monitoring.outcomes import starts
from ..package import ModelPackage
from ..record import RecordReader
from ..registry import Registry
from ..session_record import IndexNames, SessionRecord
from .dataset import DataSet, Line, Part, apart
from .spec import Spec

NOT_TRUE: Final = frozenset({"entered-in-error", "cancelled", "planned"})
PAGE: Final = 500
PATIENTS: Final = 200_000
"""The most that are looked at."""
ROWS: Final = 500_000

Told = Callable[[int, int | None], Awaitable[None]]
"""Is told how many patients are done."""


@dataclass(slots=True)
class Gathering:
    """``session``: in whose name the record is read; ``package``: the candidate without a graph."""

    spec: Spec
    package: ModelPackage
    session: Session
    index: IndexNames
    registry: Registry
    left_out: Counter[str] = field(default_factory=Counter)
    rival: ModelPackage | None = None

    async def run(self, told: Told) -> DataSet:
        """Raises Unprocessable, NotFound, Unavailable, Forbidden."""
        position = await self.session.position()
        if self.spec.gate.baseline is not None:
            self.rival = await self.registry.champion(self.spec.gate.baseline.model)
            self._known_output(self.rival, self.spec.gate.baseline.output)
        both = [self.package, *([self.rival] if self.rival is not None else [])]
        wanted = [*await needed(self.registry, both)]
        lines: list[Line] = []
        done = 0
        async for patient in self._patients():
            lines += await self._lines(patient, wanted)
            done += 1
            if len(lines) > ROWS:
                raise Unprocessable(f"more than {ROWS} rows", code="too-costly")
            await told(done, None)
        kept, twice = apart(lines)
        if twice:
            self.left_out["the patient is in the training rows too"] += twice
        names = tuple(feature.name for feature in self.package.features.feature)
        return DataSet(names, tuple(kept), dict(sorted(self.left_out.items())), position)

    @staticmethod
    def _known_output(package: ModelPackage, name: str) -> None:
        if name not in {output.name for output in package.features.output}:
            raise Unprocessable(f"baseline: {package.id} has no output {name}", code="value")

    async def _patients(self) -> AsyncIterator[str]:
        search: Search | None = Search((Scan("Patient", All(())),), count=PAGE, total="none")
        seen = 0
        while search is not None:
            page = await self.session.search(search)
            for stored in page.matches:
                yield stored.key.id
            seen += len(page.matches)
            if seen > PATIENTS:
                raise Unprocessable(f"more than {PATIENTS} patients", code="too-costly")
            search = replace(search, after=page.next) if page.next else None

    async def _lines(self, patient: str, wanted: list[ModelPackage]) -> list[Line]:
        reader = SessionRecord(self.session, patient, self.index)
        try:
            moments = await self._moments(reader)
            return [line for m in moments async for line in self._line(patient, reader, m, wanted)]
        except (NotFound, Gone):
            self.left_out["the patient is not there any more"] += 1
            return []

    async def _moments(self, reader: RecordReader) -> list[Moment]:
        rule = self.spec.index
        if rule.rule == "dates":
            return [moment(day) for day in sorted(set(rule.dates))]
        found: list[tuple[int, str]] = []
        for item in await reader.whole("Encounter") or ():
            class_ = item.resource.get("class", {}).get("code")
            dated = when({"encounterPeriod": item.resource.get("period")}, ("encounterPeriod",))
            counts = not rule.classes or class_ in rule.classes
            true = item.resource.get("status") not in NOT_TRUE
            if counts and true and dated is not None and dated[0].lo > PAST:
                found.append((dated[0].lo, format_instant(dated[0].lo)))
        ordered = [Moment.of(text) for _, text in sorted(set(found))]
        return {"first": ordered[:1], "last": ordered[-1:], "every": ordered}[rule.which]

    async def _line(
        self, patient: str, reader: RecordReader, at: Moment, wanted: list[ModelPackage]
    ) -> AsyncIterator[Line]:
        """The row of a moment, or none and its reason counted."""
        part, reason = self._part(at)
        if part is None:
            self.left_out[reason] += 1
            return
        evidence = await collect(reader, wanted, at)
        conditions = await reader.conditions()
        if conditions is None:
            raise Unprocessable("Conditions may not be searched: no outcome can be seen")
        happened, reason = self._outcome(evidence, [item.resource for item in conditions], at)
        if happened is None:
            self.left_out[reason] += 1
            return
        question = Question(self.registry, evidence, at, {})
        found = await looked_up(self.package, question)
        if found.gaps:
            self.left_out[_reason(found)] += 1
            return
        values = {
            row.feature.name: self.package.encode(row.feature, row.value) for row in found.rows
        }
        ordered = tuple(values[feature.name] for feature in self.package.features.feature)
        rival = await self._said(question) if part == "test" else None
        who = evidence.patient.resource
        sex, age = str(who.get("gender", "")), _age(who, at)
        yield Line(patient, at.text, part, ordered, happened, sex, age, rival)

    def _part(self, at: Moment) -> tuple[Part | None, str]:
        """Trains what was over when the test begins, so that nothing is known too early."""
        until = at.micros + ahead(at, self.spec.outcome.within)
        split = moment(self.spec.split.at).micros
        if until > moment(self.spec.outcome.observed_until).micros:
            return None, "its time is not over"
        if at.micros >= split:
            return "test", ""
        return ("train", "") if until <= split else (None, "its time is not over at the split")

    def _outcome(
        self, evidence: Evidence, conditions: list[Json], at: Moment
    ) -> tuple[bool | None, str]:
        target = self.spec.outcome
        until = at.micros + ahead(at, target.within)
        begun = starts(conditions, self.package.concepts[target.concept])
        if target.incident and any(start <= at.micros for start in begun):
            return None, "the outcome came before"
        if any(at.micros < start <= until for start in begun):
            return True, ""
        died = evidence.patient.resource.get("deceasedDateTime")
        if isinstance(died, str) and at.micros < parse_datetime(died).lo <= until:
            if target.death == "leave-out":
                return None, "death without the outcome"
            return target.death == "event", ""
        return False, ""

    async def _said(self, question: Question) -> float | None:
        baseline = self.spec.gate.baseline
        if self.rival is None or baseline is None:
            return None
        try:
            return (await infer(self.rival, question)).outputs.get(baseline.output)
        except Problem:
            self.left_out["(kept) the baseline could not be run"] += 1
            return None


def moment(day: str) -> Moment:
    """The first moment of a day, UTC."""
    return Moment.of(f"{day}T00:00:00Z")


def ahead(at: Moment, within: str) -> int:
    """Microseconds of a duration, as it is measured back from the moment (``Outcomes``)."""
    return at.micros - at.back(within)


def _age(patient: Json, at: Moment) -> int:
    birth = patient.get("birthDate")
    return min(years_between(birth, at.day)) if isinstance(birth, str) else -1


def _reason(found: Inference) -> str:
    """Of the first gap, without what tells of the patient."""
    gap = found.gaps[0]
    if gap.feature is not None:
        what = "is missing" if gap.code == "required" else "cannot be used"
        return f"{gap.feature.name} {what}"
    return gap.reason.partition(" (")[0]
