"""What the record shows for a set of models: fetched once, then read by every feature.

The clock of all features is ``Moment``: nothing that began after it is used.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
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
        amount, unit = int(duration[1:-1]), duration[-1]
        if unit in "YM":
            months = self.day.year * 12 + self.day.month - 1 - amount * (12 if unit == "Y" else 1)
            year, month = divmod(max(months, 12), 12)
            last = monthrange(year, month + 1)[1]
            shifted = date(year, month + 1, min(self.day.day, last))
            return self.micros - (self.day - shifted).days * DAY
        return self.micros - amount * (7 if unit == "W" else 1) * DAY


DAY = 86_400_000_000


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


async def collect(
    reader: RecordReader, packages: Iterable[ModelPackage], moment: Moment
) -> Evidence:
    """One look per resource type for all models together."""
    features = [f for package in packages for f in every(package.features.feature)]
    exclusions = any(p.features.exclusion or p.features.indication for p in packages)
    kinds = {f.kind for f in features}
    patient = await reader.patient()
    observations = await _observations(reader, features, moment)
    conditions = await reader.conditions() if "condition" in kinds or exclusions else []
    medications = await reader.medications() if "medication" in kinds else []
    codes = {}
    for item in medications or ():
        code = await _medication_code(reader, item.resource)
        if code is not None:
            codes[item.reference] = code
    types = {f.resource for f in features if f.kind == "fhirpath" and not f.codes} - {"Patient"}
    further = {type_: await reader.whole(type_) for type_ in sorted(types)}
    return Evidence(patient, observations, conditions, medications, codes, further)


async def _observations(
    reader: RecordReader, features: Iterable[Feature], moment: Moment
) -> list[Item] | None:
    """The newest of each code; of those that are aggregated back to the look-back."""
    groups: dict[tuple[CodePair, ...], int] = {}
    for feature in features:
        if feature.codes:
            until = _until(feature, moment)
            groups[feature.codes] = min(until, groups.get(feature.codes, until))
    items = await reader.observations(groups) if groups else []
    if items is None:
        return None
    return list({item.reference or id(item): item for item in items}.values())


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
