"""Features by FHIRPath: read from resources of any type, or computed from other features.

A boolean, a number, a Quantity or (with ``choices``) a code of each resource; what several
resources give is aggregated as elsewhere. https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Budget, Context, FhirPathError, compile

from .evidence import OBSERVED, has_code, when
from .kinds import KINDS, Gap, Reader, Row, Scene, assumed, nothing
from .manifest import Feature
from .quantities import aggregated, quantity
from .record import Item
from .units import measure

BUDGET: Final = Budget(steps=20_000, items=2_000, characters=20_000)
DATED: Final = (
    *OBSERVED,
    "onsetDateTime",
    "onsetPeriod",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "period",
    "date",
    "authoredOn",
    "recordedDate",
)
"""Where resources say when it was, the most telling first."""
ERRORS: Final = frozenset({"entered-in-error", "preliminary", "registered", "cancelled"})


@dataclass(frozen=True, slots=True)
class _Hit:
    """What one resource gives, and when it was."""

    row: Row
    at: int


def fhirpath(feature: Feature, scene: Scene) -> Row | Gap:
    """The value of the expression on the resources of its type."""
    resources = _resources(feature, scene)
    if resources is None:
        return Gap(feature, "forbidden", f"{feature.resource} may not be searched")
    hits: list[_Hit] = []
    for item in resources:
        at = _when(feature, item, scene)
        found = None if at is None else _value(feature, item, scene)
        if isinstance(found, Gap):
            return found
        if found is not None and at is not None:
            hits.append(_Hit(found, at))
    hits.sort(key=lambda hit: hit.at, reverse=True)
    if feature.boolean:
        shown = next((hit.row for hit in hits if hit.row.value is True), None)
        shown = shown or next((hit.row for hit in hits), None)
        return shown or assumed(feature, nothing(feature, scene).reason)
    if hits and (feature.choices or feature.aggregate == "newest"):
        return hits[0].row
    if not hits and (feature.absent is not None or feature.choices):
        if feature.otherwise:
            note = f"{feature.title}: nothing is recorded; taken as {feature.otherwise}"
            return Row(feature, feature.otherwise, "assumed", note=note)
        return assumed(feature, nothing(feature, scene).reason)
    return aggregated(feature, [hit.row for hit in hits], scene)


def _resources(feature: Feature, scene: Scene) -> list[Item] | None:
    """None: not permitted."""
    if feature.resource == "Patient":
        return [scene.evidence.patient]
    if feature.resource == "Observation" and feature.codes:
        observations = scene.evidence.observations
        if observations is None:
            return None
        codes = feature.codes
        return [item for item in observations if has_code(item.resource.get("code"), codes)]
    return scene.evidence.further.get(feature.resource)


def _when(feature: Feature, item: Item, scene: Scene) -> int | None:
    """When a resource was; None if it does not count, being an error or of another time."""
    resource = item.resource
    if resource["resourceType"] == "Patient":
        return 0
    if resource.get("status") in ERRORS:
        return None
    verified = resource.get("verificationStatus", {}).get("coding", ())
    if any(coding.get("code") in ("entered-in-error", "refuted") for coding in verified):
        return None
    dated = when(resource, DATED)
    if dated is None:
        return 0
    if dated[0].lo > scene.moment.micros:
        return None
    earliest = scene.moment.back(feature.lookback) if feature.lookback else None
    return None if earliest is not None and dated[0].hi < earliest else dated[0].lo


def _value(feature: Feature, item: Item, scene: Scene) -> Row | Gap | None:
    """None: the expression finds nothing in it."""
    now = datetime.fromtimestamp(scene.moment.micros / 1e6, UTC)
    context = Context(model=r4_model(), budget=BUDGET, now=lambda: now)
    try:
        values = compile(feature.expression).evaluate(item.resource, context)
        if not values:
            return None
        value, original, how = _typed(feature, values[0])
    except (FhirPathError, ValueError) as error:
        return Gap(feature, "value", f"{item.reference} cannot be used: {error}")
    dated = when(item.resource, DATED)
    text = dated[1] if dated else ""
    return Row(feature, value, "record", (item,), original, how, text)


def _typed(feature: Feature, value: Any) -> tuple[Any, tuple[str, Any] | None, str]:
    """The value as the graph takes it, as it was, and how it was converted. ValueError: it is of
    another kind."""
    if feature.choices:
        for name in (value, feature.concepts.get(str(value), "")):
            if isinstance(name, str) and name in feature.choices:
                return name, ("valueString", str(value)), ""
        raise ValueError(f"{str(value)[:64]!r} is none of {', '.join(feature.choices)}")
    if isinstance(value, dict):
        converted = measure(value, feature)
        return converted.value, ("valueQuantity", value), converted.how
    if isinstance(value, bool):
        if feature.unit:
            return Decimal(value), None, ""
        return value, None, ""
    if isinstance(value, int | Decimal) and feature.unit:
        return Decimal(value), None, ""
    raise ValueError(f"the expression gives {type(value).__name__}")


def compute(feature: Feature, scene: Scene, gap: Gap) -> Row | Gap:
    """The value out of the parts of the feature; ``gap``: why it is not in the record."""
    assert feature.compute is not None
    rows: list[Row] = []
    for part in feature.compute.part:
        found = READERS[part.kind](part, scene)
        if isinstance(found, Gap):
            reason = f"{gap.reason}, and cannot be computed: {part.name}: {found.reason}"
            return Gap(feature, found.code, reason)
        bounds = part.plausible
        if (
            bounds
            and isinstance(found.value, Decimal)
            and not bounds[0] <= found.value <= bounds[1]
        ):
            what = f"{part.name} {_text(found)} is not plausible ({bounds[0]} to {bounds[1]})"
            return Gap(feature, "value", f"{gap.reason}, and cannot be computed: {what}")
        rows.append(found)
    constants = {row.feature.name: row.value for row in rows}
    context = Context(constants=constants, budget=BUDGET)
    try:
        values = compile(feature.compute.expression).evaluate({}, context)
    except (FhirPathError, ArithmeticError) as error:
        return Gap(feature, "value", f"{gap.reason}, and cannot be computed: {error}")
    if len(values) != 1 or not isinstance(values[0], bool | int | Decimal):
        return Gap(feature, "value", f"{gap.reason}, and its parts do not give a value")
    value = values[0] if isinstance(values[0], bool) else Decimal(values[0])
    told = ", ".join(f"{row.feature.name} {_text(row)}" for row in rows)
    items = tuple({item.reference: item for row in rows for item in row.items}.values())
    dated = min((row.date for row in rows if row.date), default="")
    note = "; ".join(row.note for row in rows if row.note)
    how = f"{feature.compute.expression} with {told}"
    return Row(feature, value, "computed", items, None, how, dated, note)


def _text(row: Row) -> str:
    plain = not isinstance(row.value, Decimal)
    return str(row.value) if plain else f"{row.value:.6g} {row.feature.unit}".rstrip()


READERS: Final[Mapping[str, Reader]] = {
    **KINDS,
    "quantity": quantity,
    "fhirpath": fhirpath,
}
"""How each kind of feature is read."""


def read(feature: Feature, scene: Scene) -> Row | Gap:
    """From the record; computed where the record has none and the manifest says how."""
    found = READERS[feature.kind](feature, scene)
    if isinstance(found, Gap) and feature.compute is not None and found.code == "required":
        return compute(feature, scene, found)
    return found
