"""What the record shows for a set of models: fetched once, then read by every feature.

The clock of all features is ``Moment``: nothing that began after it is used.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from fhir_server.model.datatypes import FUTURE, PAST, Span, parse_datetime
from fhir_server.model.exchange import Json

from .casing import CodePair, comparable
from .manifest import Concept, Feature, every
from .package import ModelPackage
from .record import Item, RecordReader

ENTERED = {"Observation": ("final", "amended", "corrected")}
"""Statuses whose values count: drafts (also those of models) and errors do not."""

OBSERVED: Final = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued")


class Moment(NamedTuple):
    """``asOf``: the text as given, its last microsecond, the calendar day of its own zone."""

    text: str
    micros: int
    day: date

    @classmethod
    def of(cls, text: str) -> Moment:
        """Of an instant. Raises ValueError."""
        return cls(text, parse_datetime(text).hi - 1, date.fromisoformat(text[:10]))

    def back(self, duration: str) -> int:
        """Microseconds of the moment an ISO 8601 duration of one unit earlier."""
        return self.micros - _days(self.day, duration) * DAY


DAY = 86_400_000_000


@lru_cache(maxsize=4096)
def _days(day: date, duration: str) -> int:
    """Of a duration that ends on this day."""
    amount, unit = int(duration[1:-1]), duration[-1]
    if unit in "YM":
        months = day.year * 12 + day.month - 1 - amount * (12 if unit == "Y" else 1)
        year, month = divmod(max(months, 12), 12)
        last = monthrange(year, month + 1)[1]
        return (day - date(year, month + 1, min(day.day, last))).days
    return amount * (7 if unit == "W" else 1)


class Observed(NamedTuple):
    """An Observation, or its component, that has a value. ``place``: of the part in it;
    ``span``: when, if it says; ``order``: rises with what is newer."""

    item: Item
    part: Json
    place: int
    span: Span | None
    text: str
    order: tuple[int, str, str]


@dataclass(frozen=True)
class Evidence:
    """The patient and the resources that features may use. None: not permitted to search."""

    patient: Item
    observations: list[Item] | None
    conditions: list[Item] | None
    medications: list[Item] | None
    medication_codes: dict[str, Json]
    further: Mapping[str, list[Item] | None] = field(default_factory=dict)
    """What features of the kind "fhirpath" are read from, by type."""
    looked: dict[object, list[Observed]] = field(default_factory=dict)
    """What was found of the observations, by what was looked for: several models ask the same."""

    @cached_property
    def observed(self) -> Mapping[CodePair, list[Observed]]:
        """What counts of the observations by comparable code, read once for all features."""
        found: dict[CodePair, list[Observed]] = {}
        for item in self.observations or ():
            for one in _observed(item):
                for pair in codings(one.part.get("code")):
                    found.setdefault(comparable(pair), []).append(one)
        return found

    @cached_property
    def conditioned(self) -> frozenset[CodePair]:
        """Every code of the conditions."""
        return frozenset(
            pair for c in self.conditions or () for pair in codings(c.resource.get("code"))
        )


def _observed(item: Item) -> Iterator[Observed]:
    """The parts with a value, unless it is a draft, an error or measured about someone else."""
    resource = item.resource
    if resource.get("status") not in ENTERED["Observation"] or resource.get("focus"):
        return
    dated = when(resource, OBSERVED)
    issued = resource.get("issued") or resource.get("meta", {}).get("lastUpdated") or ""
    order = (dated[0].lo if dated else PAST, issued, item.reference)
    span, text = dated or (None, "")
    parts: list[Json] = [resource, *resource.get("component", [])]
    for place, part in enumerate(parts):
        if any(name.startswith("value") for name in part):
            yield Observed(item, part, place, span, text, order)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for in a record: told once for all patients of a call. ``groups``: codes that
    mean the same, and the moment before which one value is enough."""

    groups: Mapping[tuple[CodePair, ...], int]
    conditions: bool
    medications: bool
    further: tuple[str, ...]

    @classmethod
    def of(cls, packages: Iterable[ModelPackage], moment: Moment) -> Wanted:
        """One look per resource type for all models together: the newest of each code; of those
        that are aggregated back to the look-back."""
        groups: dict[tuple[CodePair, ...], int] = {}
        kinds, types, judged = set[str](), set[str](), False
        for package in packages:
            judged = judged or bool(package.features.exclusion or package.features.indication)
            for feature in every(package.features.feature):
                kinds.add(feature.kind)
                if feature.codes:
                    until = _until(feature, moment)
                    groups[feature.codes] = min(until, groups.get(feature.codes, until))
                elif feature.kind == "fhirpath":
                    types.add(feature.resource)
        return cls(
            groups,
            judged or "condition" in kinds,
            "medication" in kinds,
            tuple(sorted(types - {"Patient"})),
        )


async def collect(
    reader: RecordReader, packages: Iterable[ModelPackage], moment: Moment
) -> Evidence:
    """What the record has of what these models want."""
    return await gathered(reader, Wanted.of(packages, moment))


async def gathered(reader: RecordReader, wanted: Wanted) -> Evidence:
    """Raises NotFound or Gone where there is no such patient."""
    patient = await reader.patient()
    observations = await reader.observations(wanted.groups) if wanted.groups else []
    if observations is not None:
        observations = list({item.reference or id(item): item for item in observations}.values())
    conditions = await reader.conditions() if wanted.conditions else []
    medications = await reader.medications() if wanted.medications else []
    codes = {}
    for item in medications or ():
        code = await _medication_code(reader, item.resource)
        if code is not None:
            codes[item.reference] = code
    further = {type_: await reader.whole(type_) for type_ in wanted.further}
    return Evidence(patient, observations, conditions, medications, codes, further)


def _until(feature: Feature, moment: Moment) -> int:
    """Before which one value is enough. As far again as the look-back, since they are read in the
    order in which they began, and what had begun before may reach into it."""
    if feature.aggregate == "newest":
        return moment.micros
    if not feature.lookback:
        return PAST
    return 2 * moment.back(feature.lookback) - moment.micros


async def _medication_code(reader: RecordReader, resource: Json) -> Json | None:
    """The drug: in place, in a contained or in another Medication resource."""
    code = resource.get("medicationCodeableConcept")
    if isinstance(code, dict):
        return code
    reference = resource.get("medicationReference", {}).get("reference")
    if not isinstance(reference, str):
        return None
    if reference.startswith("#"):
        found = (c for c in resource.get("contained", []) if c.get("id") == reference[1:])
        medication = next(found, None)
    else:
        medication = await reader.resource(reference)
    return medication.get("code") if medication else None


def codings(concept: Json | None) -> list[CodePair]:
    """System and code of every coding of a CodeableConcept."""
    listed = (concept or {}).get("coding", [])
    pairs = [(c.get("system") or "", c.get("code") or "") for c in listed if isinstance(c, dict)]
    return [pair for pair in pairs if isinstance(pair[0], str) and isinstance(pair[1], str)]


def has_code(concept: Json | None, codes: Iterable[CodePair]) -> bool:
    return not set(map(comparable, codes)).isdisjoint(map(comparable, codings(concept)))


def matches(concept: Json | None, wanted: Concept) -> str:
    """Why a CodeableConcept belongs to a value list: the code or name, "" if it does not."""
    for system, code in codings(concept):
        if wanted.includes(system, code):
            return code
    return _named(concept, wanted.names) if wanted.names else ""


def _named(concept: Json | None, names: tuple[str, ...]) -> str:
    listed = (concept or {}).get("coding", [])
    texts = [c.get("display") for c in listed if isinstance(c, dict)] + [
        (concept or {}).get("text")
    ]
    words = {
        word.strip(".,;()[]").casefold()
        for text in texts
        if isinstance(text, str)
        for word in text.replace("/", " ").split()
    }
    return next((f"the name {name!r}" for name in names if name in words), "")


def when(resource: Json, stems: Iterable[str]) -> tuple[Span, str] | None:
    """The first date of these elements (dateTime, instant or Period) and its text."""
    for stem in stems:
        value = resource.get(stem)
        if isinstance(value, str):
            try:
                return parse_datetime(value), value
            except ValueError:
                continue
        if isinstance(value, dict) and stem.endswith("Period"):
            start, end = value.get("start"), value.get("end")
            lo = parse_datetime(start).lo if start else PAST
            return Span(lo, parse_datetime(end).hi if end else FUTURE), start or end or ""
    return None
