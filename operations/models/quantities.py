"""Features of the kind "quantity": values in one unit, and what several of them give together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from fhir_server.model.datatypes import parse_datetime

from .evidence import DAY, Observed, has_code
from .kinds import Gap, Row, Scene, assumed, nothing, recorded
from .manifest import Feature
from .units import measure


def quantity(feature: Feature, scene: Scene) -> Row | Gap:
    """Observation values in the unit of the feature, aggregated."""
    if scene.evidence.observations is None:
        return Gap(feature, "forbidden", "Observation may not be searched")
    if feature.aggregate == "newest":
        shown = recorded(feature, scene)
        if shown:
            return _contradicted(_measured(feature, shown[0]), shown)
    rows = _values(feature, scene)
    if isinstance(rows, Gap):
        return replace(rows, feature=feature)
    found = aggregated(feature, rows, scene)
    if isinstance(found, Gap) and found.code == "required" and feature.absent is not None:
        return assumed(feature, found.reason)
    return found


def _values(feature: Feature, scene: Scene) -> list[Row] | Gap:
    """Every value within the look-back, newest first; why one of them cannot be used."""
    key = (feature.codes, feature.inexact, feature.lookback, feature.unit, feature.molar)
    if key not in scene.measured:
        rows: list[Row] = []
        for one in recorded(feature, scene):
            row = _measured(feature, one)
            if isinstance(row, Gap):
                scene.measured[key] = row
                return row
            rows.append(row)
        scene.measured[key] = rows
    return scene.measured[key]


def _contradicted(row: Row | Gap, shown: list[Observed]) -> Row | Gap:
    """Told, where the record has other values of the same time: what was reported last counts."""
    if isinstance(row, Gap):
        return row
    others = [row.note] if row.note else []
    for one in shown[1:]:
        if one.span is None or one.order[0] != shown[0].order[0]:
            break
        other = _measured(row.feature, one)
        if isinstance(other, Row) and other.value != row.value:
            value = f"{other.value:.6g} {row.feature.told_unit}"
            others.append(f"{row.feature.title}: {one.item.reference} of the same time is {value}")
    return replace(row, note="; ".join(others))


def _measured(feature: Feature, one: Observed) -> Row | Gap:
    item, part, text = one.item, one.part, one.text
    value = part.get("valueQuantity")
    if isinstance(part.get("valueInteger"), int):  # a score, which has no other unit
        value = {"value": part["valueInteger"], "code": "1"}
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


def aggregated(feature: Feature, rows: list[Row], scene: Scene) -> Row | Gap:
    """One value of several, which come newest first."""
    values = [row.value for row in rows if isinstance(row.value, Decimal)]
    if feature.aggregate == "count":
        counted = sum(row.value is not False for row in rows)
        values = [Decimal(counted)]
    if not values:
        return nothing(feature, scene)
    items = tuple(item for row in rows for item in row.items)
    how = f"{feature.aggregate} of {len(rows)}"
    dated = rows[0].date if rows else ""
    if feature.aggregate == "slope":
        slope = _slope([row for row in rows if row.date])
        if slope is None or len(rows) < feature.least:
            needed = "two different times" if slope is None else f"{feature.least} times"
            return Gap(feature, "required", f"a slope needs values of {needed}")
        return Row(feature, slope, items=items, how=how, date=dated)
    total = _AGGREGATES[feature.aggregate](values)
    if feature.aggregate in ("min", "max"):  # told of the one that it is
        row = next(row for row in rows if row.value == total)
        items, dated = row.items, row.date
    return Row(feature, total, items=items, how=how, date=dated)


def _slope(rows: list[Row]) -> Decimal | None:
    """Of the line of least squares, per day; None where all are of one time."""
    times = [Decimal(parse_datetime(row.date).lo) / DAY for row in rows]
    values = [row.value for row in rows if isinstance(row.value, Decimal)]
    if len(set(times)) < 2:
        return None
    zero = Decimal(0)
    at, mean = sum(times, zero) / len(times), sum(values, zero) / len(values)
    spread = sum(((time - at) ** 2 for time in times), zero)
    pairs = zip(times, values, strict=True)
    return sum(((time - at) * (value - mean) for time, value in pairs), zero) / spread


_AGGREGATES: Final[Mapping[str, Callable[[list[Decimal]], Decimal]]] = {
    "newest": lambda values: values[0],
    "mean": lambda values: sum(values, Decimal(0)) / len(values),
    "min": min,
    "max": max,
    "count": lambda values: values[0],
}
