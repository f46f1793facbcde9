"""How each kind of feature is read from the evidence: one function and one row per kind.

A reader gives a ``Row`` (a value with where it comes from) or a ``Gap`` (why there is none).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from fhir_server.model.datatypes import PAST, format_instant, parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.search.values import fold

from .evidence import ENTERED, Evidence, Moment, codings, has_code, matches, when
from .manifest import Concept, Feature
from .record import Item
from .units import measure

OBSERVED: Final = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued")
BEGUN: Final = ("onsetDateTime", "onsetPeriod", "recordedDate")
NOT_TRUE: Final = frozenset({"refuted", "entered-in-error", "differential", "unconfirmed"})
YEAR_1: Final = parse_datetime("0001").lo
OVER: Final = frozenset({"inactive", "resolved"})
ORDERED: Final = frozenset(
    {"order", "original-order", "reflex-order", "filler-order", "instance-order", ""}
)
DOSED: Final = ("authoredOn", "effectiveDateTime", "effectivePeriod")

Origin: TypeAlias = Literal["record", "override", "derived", "assumed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One explained feature. ``original``: the value[x] member as recorded or given.
    ``items``: the resources that it comes from. ``note``: what a reader should know."""

    feature: Feature
    value: bool | str | Decimal
    origin: Origin = "record"
    items: tuple[Item, ...] = ()
    original: tuple[str, Any] | None = None
    how: str = ""
    date: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Why a model cannot be run: ``code`` is an issue type, ``reason`` a sentence part."""

    feature: Feature | None
    code: Literal["required", "value", "business-rule", "forbidden"]
    reason: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What a reader looks at."""

    evidence: Evidence
    moment: Moment
    concepts: Mapping[str, Concept]


Reader: TypeAlias = Callable[[Feature, Scene], Row | Gap]


def age(feature: Feature, scene: Scene) -> Row | Gap:
    """Completed years at the moment; both possible ages of a partial date must be allowed."""
    patient = scene.evidence.patient
    birth = patient.resource.get("birthDate")
    if not isinstance(birth, str):
        return Gap(feature, "required", "the Patient has no birthDate")
    first, last = _days(birth)
    oldest, youngest = _years(first, scene.moment.day), _years(last, scene.moment.day)
    if youngest < 0:
        return Gap(feature, "value", "the birthDate is after asOf")
    outside = [a for a in (oldest, youngest) if not _within(a, feature.population)]
    note = ""
    if oldest != youngest:
        note = f"birthDate {birth} leaves the age between {youngest} and {oldest}"
    value = Decimal(outside[0] if outside else youngest)
    return Row(
        feature, value, items=(patient,), original=("valueDate", birth), date=birth, note=note
    )


def _days(birth: str) -> tuple[date, date]:
    span = parse_datetime(birth)
    epoch = date(1970, 1, 1).toordinal()
    day = 86_400_000_000
    return date.fromordinal(epoch + span.lo // day), date.fromordinal(epoch + span.hi // day - 1)


def _years(birth: date, day: date) -> int:
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def _within(value: Decimal | int, bounds: tuple[Decimal, Decimal] | None) -> bool:
    return bounds is None or bounds[0] <= value <= bounds[1]


def choice(feature: Feature, scene: Scene) -> Row | Gap:
    """A code of the Patient, directly or through value lists."""
    patient = scene.evidence.patient
    if feature.path == "gender":
        text = patient.resource.get("gender")
    else:
        text = _country(patient.resource, scene.moment)
    if not isinstance(text, str):
        return Gap(feature, "required", f"the Patient has no {feature.path}")
    value = text if text in feature.choices else _listed(feature, scene, text)
    if value is None:
        known = ", ".join(feature.choices)
        return Gap(feature, "required", f"Patient.{feature.path} {text!r} gives none of {known}")
    return Row(
        feature, value, items=(patient,), original=("valueString", text), note=feature.caution
    )


def _listed(feature: Feature, scene: Scene, text: str) -> str | None:
    word = text.strip().casefold()
    for value, concept in feature.concepts.items():
        if any(word in (name, fold(name)) for name in scene.concepts[concept].names):
            return value
    return None


def _country(patient: Json, moment: Moment) -> str | None:
    """Of the addresses in use at the moment, the home first."""
    current = [
        a
        for a in patient.get("address", [])
        if a.get("country") and a.get("use") != "old" and _in_use(a.get("period"), moment)
    ]
    current.sort(key=lambda a: a.get("use") != "home")
    return str(current[0]["country"]) if current else None


def _in_use(period: Json | None, moment: Moment) -> bool:
    end = (period or {}).get("end")
    return not end or parse_datetime(end).hi > moment.micros


def _observed(feature: Feature, scene: Scene) -> Iterator[tuple[Item, Json, str]]:
    """Item, the part that carries the value, its date; newest first, undated ones last."""
    codes = set(feature.codes)
    earliest = scene.moment.back(feature.lookback)
    found = []
    for item in scene.evidence.observations or ():
        part = _part(item.resource, codes)
        if part is None or item.resource.get("status") not in ENTERED["Observation"]:
            continue
        if item.resource.get("focus"):  # measured on the subject, but about someone else
            continue
        dated = when(item.resource, OBSERVED)
        start = dated[0].lo if dated else PAST
        if dated and not (earliest <= dated[0].hi and start <= scene.moment.micros):
            continue
        issued = item.resource.get("issued") or item.resource.get("meta", {}).get("lastUpdated")
        order = (start, issued or "", item.reference)
        found.append((order, item, part, dated[1] if dated else ""))
    found.sort(key=lambda entry: entry[0], reverse=True)
    for _, item, part, text in found:
        yield item, part, text


def _part(resource: Json, codes: set[tuple[str, str]]) -> Json | None:
    """The Observation itself, or its component, with one of the codes and a value."""
    parts: list[Json] = [resource, *resource.get("component", [])]
    for part in parts:
        if has_code(part.get("code"), codes) and any(k.startswith("value") for k in part):
            return part
    return None


def _none(feature: Feature, scene: Scene) -> Gap:
    since = format_instant(max(scene.moment.back(feature.lookback), YEAR_1))[:10]
    return Gap(feature, "required", f"the record has none since {since}")


def quantity(feature: Feature, scene: Scene) -> Row | Gap:
    """Observation values in the unit of the feature, aggregated."""
    if scene.evidence.observations is None:
        return Gap(feature, "forbidden", "Observation may not be searched")
    rows: list[Row] = []
    for item, part, text in _observed(feature, scene):
        row = _measured(feature, item, part, text)
        if isinstance(row, Gap) or feature.aggregate == "newest":
            return row
        rows.append(row)
    return _aggregate(feature, rows, scene)


def _measured(feature: Feature, item: Item, part: Json, text: str) -> Row | Gap:
    value = part.get("valueQuantity")
    if not isinstance(value, dict):
        return Gap(feature, "value", f"{item.reference} has no valueQuantity")
    try:
        converted = measure(value, feature)
    except ValueError as error:
        return Gap(feature, "value", f"{item.reference} cannot be used: {error}")
    notes = [] if text else [f"{item.reference} has no date"]
    if has_code(part.get("code"), feature.inexact):
        notes.append(feature.caution)
    note = "; ".join(notes)
    original = ("valueQuantity", value)
    return Row(feature, converted.value, "record", (item,), original, converted.how, text, note)


def _aggregate(feature: Feature, rows: list[Row], scene: Scene) -> Row | Gap:
    values = [row.value for row in rows if isinstance(row.value, Decimal)]
    if not values and feature.aggregate != "count":
        return _none(feature, scene)
    total = _AGGREGATES[feature.aggregate](values)
    items = tuple(item for row in rows for item in row.items)
    how = f"{feature.aggregate} of {len(values)}"
    return Row(feature, total, items=items, how=how, date=rows[0].date if rows else "")


_AGGREGATES: Final[Mapping[str, Callable[[list[Decimal]], Decimal]]] = {
    "newest": lambda values: values[0],
    "mean": lambda values: sum(values, Decimal(0)) / len(values),
    "min": min,
    "max": max,
    "count": lambda values: Decimal(len(values)),
}


def answer(feature: Feature, scene: Scene) -> Row | Gap:
    """The newest coded answer: one list means yes, another no."""
    if scene.evidence.observations is None:
        return Gap(feature, "forbidden", "Observation may not be searched")
    for item, part, text in _observed(feature, scene):
        value = part.get("valueBoolean")
        if not isinstance(value, bool):
            value = _answered(feature, scene, part.get("valueCodeableConcept"))
        if value is None:
            return Gap(feature, "value", f"{item.reference} does not answer it")
        member = "valueBoolean" if "valueBoolean" in part else "valueCodeableConcept"
        return Row(feature, value, items=(item,), original=(member, part[member]), date=text)
    return _none(feature, scene)


def _answered(feature: Feature, scene: Scene, concept: Json | None) -> bool | None:
    yes = bool(matches(concept, scene.concepts[feature.yes]))
    no = bool(matches(concept, scene.concepts[feature.no]))
    return yes if yes != no else None


def condition(feature: Feature, scene: Scene) -> Row | Gap:
    """True if a Condition of the value list is recorded."""
    if scene.evidence.conditions is None:
        return Gap(feature, "forbidden", "Condition may not be searched")
    item = find_condition(scene, feature.concept, feature.when)
    if item is None:
        return _assumed(feature, "no Condition of this kind is in the visible record")
    dated = when(item.resource, BEGUN)
    original = ("valueCodeableConcept", item.resource["code"])
    return Row(feature, True, items=(item,), original=original, date=dated[1] if dated else "")


def find_condition(scene: Scene, concept: str, period: str) -> Item | None:
    """The first Condition of a value list that counts at the moment."""
    for item in scene.evidence.conditions or ():
        resource = item.resource
        if not matches(resource.get("code"), scene.concepts[concept]):
            continue
        if NOT_TRUE & {code for _, code in codings(resource.get("verificationStatus"))}:
            continue
        dated = when(resource, BEGUN)
        if dated and dated[0].lo > scene.moment.micros:
            continue
        if period == "current" and _is_over(resource, scene.moment):
            continue
        return item
    return None


def _is_over(resource: Json, moment: Moment) -> bool:
    ended = when(resource, ("abatementDateTime",))
    if ended:
        return ended[0].hi <= moment.micros
    return bool(OVER & {code for _, code in codings(resource.get("clinicalStatus"))})


def medication(feature: Feature, scene: Scene) -> Row | Gap:
    """True if a drug of the value list is ordered or taken at the moment."""
    if scene.evidence.medications is None:
        return Gap(feature, "forbidden", "MedicationRequest may not be searched")
    for item in scene.evidence.medications:
        code = scene.evidence.medication_codes.get(item.reference)
        why = matches(code, scene.concepts[feature.concept])
        if not why or not _is_taken(item.resource, scene.moment):
            continue
        dated = when(item.resource, DOSED)
        note = f"recognised by {why} in {item.reference}" if why.startswith("the name") else ""
        original = ("valueCodeableConcept", code)
        text = dated[1] if dated else ""
        return Row(feature, True, items=(item,), original=original, date=text, note=note)
    return _assumed(feature, "no such medication is active in the visible record")


def _is_taken(resource: Json, moment: Moment) -> bool:
    """An active order or statement whose time has come and is not over."""
    if resource.get("status") != "active" or resource.get("doNotPerform") is True:
        return False
    order = resource["resourceType"] == "MedicationRequest"
    if order and resource.get("intent", "") not in ORDERED:
        return False
    dated = when(resource, DOSED)
    if dated and dated[0].lo > moment.micros:
        return False
    held = resource.get("dispenseRequest", {}).get("validityPeriod") if order else None
    return _in_use(held or resource.get("effectivePeriod"), moment)


def _assumed(feature: Feature, reason: str) -> Row | Gap:
    if feature.absent is None:
        return Gap(feature, "required", reason)
    return Row(feature, feature.absent, "assumed", note=f"{feature.title}: {reason}; taken as no")


KINDS: Final[Mapping[str, Reader]] = {
    "age": age,
    "choice": choice,
    "quantity": quantity,
    "answer": answer,
    "condition": condition,
    "medication": medication,
}
