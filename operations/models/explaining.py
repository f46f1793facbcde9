"""Where each feature of a model comes from, for one patient: ``vehr model features``."""

from __future__ import annotations

from typing import NamedTuple

from .evidence import Moment, collect
from .inference import Inference, Question, infer, needed
from .kinds import Gap, Row
from .package import ModelPackage
from .record import RecordReader
from .registry import Registry


class Line(NamedTuple):
    """One feature. ``source``: record, derived or assumed, or missing; ``how``: the conversion or
    the reason; ``resources``: versioned references."""

    feature: str
    value: str
    unit: str
    source: str
    date: str
    how: str
    resources: tuple[str, ...]


async def explain(registry: Registry, reader: RecordReader, name: str, at: Moment) -> list[Line]:
    """What the model named would be given, feature by feature, and what else stands in its way.

    Raises NotFound for an unknown model or patient, Unavailable if it cannot be run.
    """
    package = await registry.champion(name)
    evidence = await collect(reader, await needed(registry, [package]), at)
    return list(lines(package, await infer(package, Question(registry, evidence, at, {}))))


def lines(package: ModelPackage, inference: Inference) -> list[Line]:
    """Those of the features in their order, then those of the patient as a whole."""
    rows = {row.feature.name: row for row in inference.rows}
    gaps = {gap.feature.name: gap for gap in inference.gaps if gap.feature is not None}
    found = [
        _given(rows[f.name]) if f.name in rows else _missing(f.name, f.unit, gaps.get(f.name))
        for f in package.features.feature
    ]
    refused = [gap for gap in inference.gaps if gap.feature is None]
    return found + [Line("patient", "", "", "refused", "", gap.reason, ()) for gap in refused]


def _given(row: Row) -> Line:
    value = row.value
    text = str(value) if isinstance(value, bool | str) else f"{value:.6g}"
    how = "; ".join(part for part in (row.how, row.note) if part)
    resources = tuple(item.reference for item in row.items)
    return Line(row.feature.name, text, row.feature.unit, row.origin, row.date, how, resources)


def _missing(name: str, unit: str, gap: Gap | None) -> Line:
    reason = gap.reason if gap is not None else "not looked for"
    return Line(name, "", unit, "missing", "", reason, ())
