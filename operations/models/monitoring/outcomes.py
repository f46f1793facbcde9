"""Calibration: what was predicted against what happened.

Predictions are the RiskAssessments of a version that the record holds; an outcome is a Condition
that the card names. A prediction counts when its outcome has come, or its time is over without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.search.plan import Any as AnyOf
from fhir_server.search.plan import InPatient, ReferenceIs, Scan, Search

from ..evidence import Moment, matches, when
from ..kinds import BEGUN, NOT_TRUE
from ..manifest import Concept, Outcome
from ..package import ModelPackage

MOST: Final = 20_000
"""Predictions that are looked at, the newest first."""
BINS: Final = 10
REJECTED: Final = frozenset({"entered-in-error", "cancelled"})

Index = Callable[[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one output. ``n``: predictions whose outcome is known; ``pending``: the others;
    ``expected``: the sum of their probabilities; ``observed``: outcomes; ``z``: their distance
    against what chance gives; ``bins``: (n, expected, observed) by tenths of probability."""

    output: str
    n: int
    pending: int
    expected: float
    observed: int
    z: float
    bins: tuple[tuple[int, float, int], ...]


def calibration(output: str, known: Iterable[tuple[float, bool]], pending: int) -> Calibration:
    """Of probabilities and outcomes."""
    bins = [[0, 0.0, 0] for _ in range(BINS)]
    variance = 0.0
    for probability, happened in known:
        row = bins[min(int(probability * BINS), BINS - 1)]
        row[0] += 1
        row[1] += probability
        row[2] += happened
        variance += probability * (1 - probability)
    n, expected, observed = (sum(row[i] for row in bins) for i in range(3))
    z = (observed - expected) / sqrt(variance) if variance else 0.0
    rows = tuple((int(a), float(b), int(c)) for a, b, c in bins)
    return Calibration(output, int(n), pending, float(expected), int(observed), z, rows)


class Outcomes:
    """``session``: of the server itself; ``index``: names of the indexes of search parameters."""

    def __init__(self, session: Session, index: Index, now: int) -> None:
        self._session = session
        self._index = index
        self._now = now

    async def of(self, package: ModelPackage) -> list[Calibration]:
        """Of the outputs for which the card names an outcome."""
        if not package.card.outcome:
            return []
        known: dict[str, list[tuple[float, bool]]] = {o.output: [] for o in package.card.outcome}
        pending = dict.fromkeys(known, 0)
        async for assessment in self._predictions(package):
            conditions = await self._conditions(assessment)
            for outcome in package.card.outcome:
                found = self._judged(assessment, outcome, conditions, package)
                if found is None:
                    continue
                probability, happened = found
                if happened is None:
                    pending[outcome.output] += 1
                else:
                    known[outcome.output].append((probability, happened))
        return [calibration(output, rows, pending[output]) for output, rows in known.items()]

    def _judged(
        self, assessment: Json, outcome: Outcome, conditions: list[Json], package: ModelPackage
    ) -> tuple[float, bool | None] | None:
        """Probability and whether it came true, None: not known yet. None: nothing was said."""
        probability = said(assessment, outcome.output)
        at = assessment.get("occurrenceDateTime")
        if probability is None or not isinstance(at, str) or len(at) < len("2026-01-01"):
            return None
        begun, moment = parse_datetime(at).hi, Moment.of(at)
        until = begun + moment.micros - moment.back(outcome.within)
        concept = package.concepts[outcome.concept]
        if any(begun <= start < until for start in starts(conditions, concept)):
            return probability, True
        return probability, False if until <= self._now else None

    async def _predictions(self, package: ModelPackage) -> AsyncIterator[Json]:
        names = self._index("RiskAssessment", "performer")
        made = AnyOf(tuple(ReferenceIs(name, "Device", package.id) for name in names))
        async for resource in self._found(Scan("RiskAssessment", made)):
            if resource.get("status") not in REJECTED:
                yield resource

    async def _conditions(self, assessment: Json) -> list[Json]:
        type_, _, id_ = assessment.get("subject", {}).get("reference", "").partition("/")
        if type_ != "Patient":
            return []
        return [one async for one in self._found(Scan("Condition", InPatient((id_,))))]

    async def _found(self, scan: Scan) -> AsyncIterator[Json]:
        search: Search | None = Search((scan,), count=500, total="none")
        seen = 0
        while search is not None and seen < MOST:
            page = await self._session.search(search)
            seen += len(page.matches)
            for stored in page.matches:
                yield loads(stored.body)
            search = replace(search, after=page.next) if page.next else None


def said(assessment: Json, output: str) -> float | None:
    """The probability of an output of a model."""
    for prediction in assessment.get("prediction", []):
        codes = {c.get("code") for c in prediction.get("outcome", {}).get("coding", [])}
        value: Any = prediction.get("probabilityDecimal")
        if output in codes and value is not None:
            return float(value)
    return None


def starts(conditions: Iterable[Json], concept: Concept) -> list[int]:
    """When the Conditions of a concept began, microseconds."""
    found = []
    for condition in conditions:
        status = {c.get("code") for c in condition.get("verificationStatus", {}).get("coding", [])}
        dated = when(condition, BEGUN)
        if dated and status.isdisjoint(NOT_TRUE) and matches(condition.get("code"), concept):
            found.append(dated[0].lo)
    return found
