"""How each kind of feature is read from the evidence: one function and one row per kind.

A reader gives a ``Row`` (a value with where it comes from) or a ``Gap`` (why there is none).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from fhir_server.model.datatypes import format_instant, parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.search.values import fold

from .evidence import Evidence, Moment, Observed, codings, matches, when
from .manifest import Concept, Feature
from .record import Item

BEGUN: Final = ("onsetDateTime", "onsetPeriod", "recordedDate")
NOT_TRUE: Final = frozenset({"refuted", "entered-in-error", "differential", "unconfirmed"})
YEAR_1: Final = parse_datetime("0001").lo
OVER: Final = frozenset({"inactive", "resolved"})
ORDERED: Final = frozenset(
    {"order", "original-order", "reflex-order", "filler-order", "instance-order", ""}
)
ANSWERS: Final = ("valueBoolean", "valueCodeableConcept", "valueQuantity")
MOST_LOOKED: Final = 1024
DOSED: Final = ("authoredOn", "effectiveDateTime", "effectivePeriod")

Origin: TypeAlias = Literal["record", "override", "derived", "computed", "assumed"]


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
    measured: dict[object, list[Row] | Gap] = field(default_factory=dict)
    """Values by what they are read by: several features may aggregate the same ones."""


Reader: TypeAlias = Callable[[Feature, Scene], Row | Gap]


def age(feature: Feature, scene: Scene) -> Row | Gap:
    """Completed years at the moment; both possible ages of a partial date must be allowed."""
    patient = scene.evidence.patient
    birth = patient.resource.get("birthDate")
    if not isinstance(birth, str):
        return Gap(feature, "required", "the Patient has no birthDate")
    oldest, youngest = years_between(birth, scene.moment.day)
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


@lru_cache(maxsize=4096)
def years_between(birth: str, day: date) -> tuple[int, int]:
    """The greatest and the least number of completed years that a birthDate leaves open."""
    first, last = _days(birth)
    return _years(first, day), _years(last, day)


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
    """A code of the Patient, directly or through value lists, or a coded Observation."""
    if feature.codes:
        return _coded_choice(feature, scene)
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
    return feature.otherwise or None


def _coded_choice(feature: Feature, scene: Scene) -> Row | Gap:
    """The newest Observation whose value is in the list of exactly one choice."""
    if scene.evidence.observations is None:
        return Gap(feature, "forbidden", "Observation may not be searched")
    for item, part, _, _, text, _ in recorded(feature, scene):
        value = part.get("valueCodeableConcept")
        fitting = [
            c for c, name in feature.concepts.items() if matches(value, scene.concepts[name])
        ]
        if len(fitting) != 1:
            return Gap(feature, "value", f"{item.reference} gives none of its choices")
        original = ("valueCodeableConcept", value)
        return Row(feature, fitting[0], items=(item,), original=original, date=text)
    missing = nothing(feature, scene)
    if not feature.otherwise:
        return missing
    note = f"{feature.title}: {missing.reason}; taken as {feature.otherwise}"
    return Row(feature, feature.otherwise, "assumed", note=note)


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


def recorded(feature: Feature, scene: Scene) -> list[Observed]:
    """What the record shows within the look-back; newest first, undated ones last."""
    moment, looked = scene.moment, scene.evidence.looked
    key = (feature.codes, feature.lookback, moment)
    if key not in looked:
        found: dict[int, Observed] = {}
        earliest = moment.back(feature.lookback)
        for pair in feature.pairs:
            for one in scene.evidence.observed.get(pair, ()):
                if one.span and not (earliest <= one.span.hi and one.span.lo <= moment.micros):
                    continue
                first = found.setdefault(id(one.item.resource), one)
                if one.place < first.place:
                    found[id(one.item.resource)] = one
        if len(looked) > MOST_LOOKED:  # one record, at very many moments
            looked.clear()
        looked[key] = sorted(found.values(), key=lambda one: one.order, reverse=True)
    return looked[key]


def nothing(feature: Feature, scene: Scene) -> Gap:
    """Nothing is recorded within the look-back."""
    if not feature.lookback:
        return Gap(feature, "required", "the record has none")
    since = format_instant(max(scene.moment.back(feature.lookback), YEAR_1))[:10]
    return Gap(feature, "required", f"the record has none since {since}")


def answer(feature: Feature, scene: Scene) -> Row | Gap:
    """The newest coded answer: one list means yes, another no."""
    if scene.evidence.observations is None:
        return Gap(feature, "forbidden", "Observation may not be searched")
    for item, part, _, _, text, _ in recorded(feature, scene):
        member = next((m for m in ANSWERS if m in part), "")
        value = part[member] if member == "valueBoolean" else None
        if member == "valueCodeableConcept":
            value = _answered(feature, scene, part[member])
        if member == "valueQuantity" and feature.above is not None:
            value = _exceeds(part[member], feature.above)
        if not isinstance(value, bool):
            return Gap(feature, "value", f"{item.reference} does not answer it")
        return Row(feature, value, items=(item,), original=(member, part[member]), date=text)
    missing = nothing(feature, scene)
    return missing if feature.absent is None else assumed(feature, missing.reason)


def _exceeds(quantity: Json, bound: Decimal) -> bool | None:
    value = quantity.get("value")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return None if quantity.get("comparator") else Decimal(value) > bound


def _answered(feature: Feature, scene: Scene, concept: Json | None) -> bool | None:
    yes = bool(matches(concept, scene.concepts[feature.yes]))
    no = bool(matches(concept, scene.concepts[feature.no]))
    return yes if yes != no else None


def condition(feature: Feature, scene: Scene) -> Row | Gap:
    """True if a Condition of the value list is recorded, or an Observation says as much."""
    if scene.evidence.conditions is None:
        return Gap(feature, "forbidden", "Condition may not be searched")
    if feature.codes and scene.evidence.observations is None:
        return Gap(feature, "forbidden", "Observation may not be searched")
    item = find_condition(scene, feature.concept, feature.when)
    if item is None:
        missing = "no Condition of this kind is in the visible record"
        return _said(feature, scene) or assumed(feature, missing)
    dated = when(item.resource, BEGUN)
    original = ("valueCodeableConcept", item.resource["code"])
    return Row(feature, True, items=(item,), original=original, date=dated[1] if dated else "")


def _said(feature: Feature, scene: Scene) -> Row | None:
    """By the newest Observation of its codes, if that means yes."""
    for one in recorded(feature, scene)[:1] if feature.codes else ():
        answer = one.part.get("valueCodeableConcept")
        if matches(answer, scene.concepts[feature.yes]):
            original = ("valueCodeableConcept", answer)
            return Row(feature, True, items=(one.item,), original=original, date=one.text)
    return None


def find_condition(scene: Scene, concept: str, period: str) -> Item | None:
    """The first Condition of a value list that counts at the moment."""
    wanted = scene.concepts[concept]
    if not wanted.names and not any(wanted.includes(*p) for p in scene.evidence.conditioned):
        return None
    for item in scene.evidence.conditions or ():
        resource = item.resource
        if not matches(resource.get("code"), wanted):
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
    return assumed(feature, "no such medication is active in the visible record")


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


def assumed(feature: Feature, reason: str) -> Row | Gap:
    """What the manifest takes where nothing is recorded; a gap where it takes nothing."""
    if feature.absent is None:
        return Gap(feature, "required", reason)
    taken = f"{feature.absent} {feature.told_unit}" if feature.unit else "no"
    note = f"{feature.title}: {reason}; taken as {taken}"
    return Row(feature, feature.absent, "assumed", note=note)


KINDS: Final[Mapping[str, Reader]] = {
    "age": age,
    "choice": choice,
    "answer": answer,
    "condition": condition,
    "medication": medication,
}
