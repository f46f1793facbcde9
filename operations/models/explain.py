"""Where each feature of a model comes from: ``vehr model features MODEL Patient/ID``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from fhir_server.model.exchange import Json

from .casing import comparable
from .evidence import Moment, codings, collect
from .inference import Inference, Question, infer, needed
from .kinds import Gap, Row
from .manifest import Feature
from .record import Item, RecordReader
from .registry import Registry


@dataclass(frozen=True, slots=True)
class Source:
    """``reference``: of the version that was read; ``codes``: those of the feature that it bears,
    as ``system|code``."""

    reference: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """One feature. ``value`` None: there is none, and ``missing`` says why. ``origin``: record,
    derived, computed, assumed. ``recorded``: the value[x] as written; ``conversion``: to ``unit``;
    ``lookback``: ISO 8601."""

    feature: str
    title: str
    kind: str
    value: bool | str | Decimal | None
    unit: str
    origin: str = ""
    recorded: Any = None
    conversion: str = ""
    date: str = ""
    note: str = ""
    missing: str = ""
    lookback: str = ""
    sources: tuple[Source, ...] = ()

    def to_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModelFeatures:
    """``refused``: why the model as a whole does not apply."""

    model: str
    features: tuple[Explained, ...]
    refused: tuple[str, ...]


async def explain_features(
    registry: Registry, reader: RecordReader, model: str, moment: Moment
) -> ModelFeatures:
    """Of one model on one record at one moment; the graph may be run, nothing is written.

    ``model``: as ``Registry.champion`` takes it. Raises NotFound, Gone, Unavailable.
    """
    package = await registry.champion(model)
    wanted = await needed(registry, [package])
    evidence = await collect(reader, wanted, moment)
    found = await infer(package, Question(registry, evidence, moment, {}))
    rows = {row.feature.name: row for row in found.rows}
    gaps = {gap.feature.name: gap for gap in found.gaps if gap.feature is not None}
    told = tuple(
        _explained(f, rows.get(f.name), gaps.get(f.name)) for f in package.features.feature
    )
    return ModelFeatures(package.id, told, tuple(_refused(found)))


def _refused(found: Inference) -> Iterator[str]:
    for gap in found.gaps:
        if gap.feature is None:
            yield gap.reason
    yield from found.cautions


def _explained(feature: Feature, row: Row | None, gap: Gap | None) -> Explained:
    missing = gap.reason if gap is not None else ""
    plain = (feature.name, feature.title, feature.kind)
    if row is None:
        return Explained(
            *plain, None, feature.told_unit, missing=missing, lookback=feature.lookback
        )
    return Explained(
        *plain,
        row.value,
        feature.told_unit,
        row.origin,
        row.original[1] if row.original else None,
        row.how,
        row.date,
        row.note,
        missing,
        feature.lookback,
        tuple(Source(item.reference, _codes(feature, item)) for item in row.items),
    )


def _codes(feature: Feature, item: Item) -> tuple[str, ...]:
    parts = (item.resource, *item.resource.get("component", []))
    borne = [pair for part in parts for pair in codings(part.get("code"))]
    if feature.codes and item.resource["resourceType"] == "Observation":
        own = set(map(comparable, feature.codes))
        borne = [pair for pair in borne if comparable(pair) in own]
    return tuple(f"{system}|{code}" for system, code in dict.fromkeys(borne))
