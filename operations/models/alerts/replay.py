"""A record played again: what each alarm's models said at every moment of a stay.

A moment is the time of a value that feeds a model; it sees what was dated until then, as ``asOf``
does. That a value was entered later than it was taken is not known to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Context, FhirPathError, compile
from fhir_server.model.datatypes import PAST, format_instant, parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

from ..computed import BUDGET
from ..evidence import OBSERVED, Evidence, Moment, collect, when
from ..inference import Question, looked_up, needed
from ..package import ModelPackage
from ..record import RecordReader
from ..registry import Registry
from ..triggers import Triggers
from .spec import Outcome, Spec

MINUTE: Final = 60_000_000
LEFT_OUT: Final = frozenset({"planned", "cancelled", "entered-in-error"})

Outputs = dict[str, float]


@dataclass(frozen=True, slots=True)
class Stay:
    """``end``: when it, or the record of it, is over, or the outcome came. ``event``: the moment
    and name of that outcome. ``said``: per moment the outputs by model. Microseconds."""

    patient: str
    start: int
    end: int
    event: tuple[int, str] | None
    said: tuple[tuple[int, Mapping[str, Outputs]], ...]


@dataclass(slots=True)
class Replay:
    """``skipped``: moments without an answer, by model and reason; ``silent``: stays without any
    answer; ``events``: those of all stays, by name."""

    spec: Spec
    registry: Registry
    packages: tuple[ModelPackage, ...]
    wanted: tuple[ModelPackage, ...]
    triggers: Triggers
    skipped: Counter[str] = field(default_factory=Counter)
    silent: int = 0

    @classmethod
    async def of(cls, spec: Spec, registry: Registry) -> Replay:
        """Raises Unprocessable for an output that a model does not have, NotFound, Unavailable."""
        packages: dict[str, ModelPackage] = {}
        for alarm in spec.alarm:
            package = packages[alarm.model] = await registry.champion(alarm.model)
            known = {output.name for output in package.features.output}
            for name in set(alarm.outputs) - known:
                raise Unprocessable(f"alarm {alarm.title!r}: {package.id} has no output {name}")
        wanted = await needed(registry, packages.values())
        own = tuple(packages.values())
        return cls(spec, registry, own, tuple(wanted), Triggers.of(own))

    async def stays(self, reader: RecordReader) -> AsyncIterator[Stay]:
        """Of one patient. Raises Unprocessable where a type may not be searched."""
        encounters = [e for e in await _all(reader, "Encounter") if self._counts(e)]
        if not encounters:
            return
        events = [found async for found in self._events(reader)]
        for encounter in encounters:
            stay = await self._stay(reader, encounter, events)
            if stay is not None and stay.said:
                yield stay
            else:
                self.silent += 1

    def _counts(self, encounter: Json) -> bool:
        class_ = encounter.get("class", {}).get("code")
        true = encounter.get("status") not in LEFT_OUT
        return true and class_ in self.spec.stay.classes and "start" in encounter.get("period", {})

    async def _events(self, reader: RecordReader) -> AsyncIterator[tuple[int, str]]:
        for outcome in self.spec.outcome:
            for resource in await _all(reader, outcome.resource):
                for moment in _times(outcome, resource):
                    yield moment, outcome.name

    async def _stay(
        self, reader: RecordReader, encounter: Json, events: Iterable[tuple[int, str]]
    ) -> Stay | None:
        period = encounter["period"]
        start = parse_datetime(period["start"]).lo
        evidence = await collect(reader, self.wanted, Moment.of(format_instant(start)))
        dated = sorted(self._dated(evidence, start))
        if not dated:
            return None
        end = parse_datetime(period["end"]).hi if "end" in period else dated[-1]
        event = min((e for e in events if start < e[0] <= end), default=None)
        until = event[0] if event else end
        moments = [at for at in self._settled(dated) if at < until]
        said = await self._said(evidence, moments)
        return Stay(str(evidence.patient.resource.get("id")), start, until, event, tuple(said))

    def _dated(self, evidence: Evidence, start: int) -> set[int]:
        if evidence.observations is None:
            raise Unprocessable("Observation may not be searched: no moment can be seen")
        found = set()
        for item in evidence.observations:
            dated = when(item.resource, OBSERVED)
            if dated and dated[0].lo >= start and self.triggers.fed_by(item.resource):
                found.add(dated[0].lo)
        return found

    def _settled(self, dated: Sequence[int]) -> list[int]:
        """The last of each run of values that follow each other closely."""
        quiet = self.spec.quiet * MINUTE
        followed = zip(dated, [*dated[1:], None], strict=True)
        return [at for at, next_ in followed if next_ is None or next_ - at > quiet]

    async def _said(
        self, evidence: Evidence, moments: Sequence[int]
    ) -> list[tuple[int, dict[str, Outputs]]]:
        """The moments at which a model has answered, with what it said."""
        found: dict[int, dict[str, Outputs]] = {}
        for package in self.packages:
            rows: list[tuple[int, Mapping[str, float]]] = []
            for at in moments:
                row = await self._row(package, evidence, at)
                if row is not None:
                    rows.append((at, row))
            for at, outputs in await self._run(package, rows):
                found.setdefault(at, {})[package.card.name] = outputs
        return sorted(found.items())

    async def _row(
        self, package: ModelPackage, evidence: Evidence, at: int
    ) -> Mapping[str, float] | None:
        question = Question(self.registry, evidence, Moment.of(format_instant(at)), {})
        answer = await looked_up(package, question)
        if answer.gaps:
            gap = answer.gaps[0]
            told = gap.feature.name if gap.feature is not None else gap.reason.partition(" (")[0]
            self.skipped[f"{package.card.name}: {told}"] += 1
            return None
        return {r.feature.name: package.encode(r.feature, r.value) for r in answer.rows}

    async def _run(
        self, package: ModelPackage, rows: Sequence[tuple[int, Mapping[str, float]]]
    ) -> list[tuple[int, Outputs]]:
        if not rows:
            return []
        names = [feature.name for feature in package.features.feature]
        columns = {name: [row[name] for _, row in rows] for name in names}
        outputs = await self.registry.runtime.run(package, columns)
        return [
            (at, {name: values[i] for name, values in outputs.items()})
            for i, (at, _) in enumerate(rows)
        ]


async def _all(reader: RecordReader, type_: str) -> list[Json]:
    if type_ == "Patient":
        return [(await reader.patient()).resource]
    found = await reader.whole(type_)
    if found is None:
        raise Unprocessable(f"{type_} may not be searched: the outcome cannot be seen")
    return [item.resource for item in found]


def _times(outcome: Outcome, resource: Json) -> list[int]:
    """Raises Unprocessable where the expression gives something else than a moment."""
    now = datetime.fromtimestamp(0, UTC)
    context = Context(model=r4_model(), budget=BUDGET, now=lambda: now)
    try:
        values: list[Any] = compile(outcome.time).evaluate(resource, context)
        spans = [parse_datetime(str(value)) for value in values]
    except (FhirPathError, ValueError) as error:
        raise Unprocessable(f"outcome {outcome.name}: {error}") from error
    return [span.lo for span in spans if span.lo > PAST]
