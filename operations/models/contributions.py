"""What each feature adds to a result: its value against the reference value of the manifest.

The graph is run once for all: the patient, everybody at the references, and the patient with one
feature (or group) at its reference. What changes is the contribution. On the scale on which an
output is a sum ("linear", "points") the contributions add up to it; else they are "occlusion".
Features without a reference are given: of the patient in every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.model.exchange import Json

from .kinds import Row
from .manifest import Attribution, Feature, Output
from .package import ModelPackage

CONTRIBUTION: Final = "urn:vehr:fhir:StructureDefinition:model-contribution"
PLACES: Final = Decimal("1e-9")
OCCLUSION: Final = Attribution("occlusion")

SCALES: Final[Mapping[str, Callable[[float], float]]] = {
    "identity": lambda value: value,
    "log": math.log,
    "logit": lambda value: math.log(value / (1 - value)),
    "cloglog": lambda value: math.log(-math.log1p(-value)),
}
"""Of an output, on which an exact one is a sum. ValueError outside of their domain."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """``features``: one, or those of a group, with their references. ``added``: on the scale."""

    features: tuple[tuple[Feature, Any], ...]
    added: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """``base``: the output of the references, ``total``: of the patient, both on the scale. With
    an exact method ``base`` and what is added sum up to ``total``."""

    output: str
    attribution: Attribution
    base: float
    total: float
    parts: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Occluding:
    """The rows of one call: the patient first. ``sets``: the features of each further row but
    the second, which is that of the references."""

    sets: tuple[tuple[tuple[Feature, Any], ...], ...]
    inputs: dict[str, list[float]]

    def explained(
        self, package: ModelPackage, outputs: Mapping[str, Sequence[float]]
    ) -> tuple[Explanation, ...]:
        """Of the outputs that the manifest names, else of the first."""
        if not self.sets:
            return ()
        named = [o for o in package.features.output if o.attribution is not None]
        found = [_explanation(o, self.sets, outputs) for o in named or package.features.output[:1]]
        return tuple(one for one in found if one is not None)


def occluding(package: ModelPackage, rows: Iterable[Row]) -> Occluding:
    """The inputs of the graph by feature name, with the rows that tell contributions."""
    values = {row.feature.name: package.encode(row.feature, row.value) for row in rows}
    groups: dict[str, list[tuple[Feature, Any]]] = {}
    for feature in package.features.feature:
        if feature.reference is not None:
            name = feature.group or feature.name
            groups.setdefault(name, []).append((feature, feature.reference))
    sets = tuple(tuple(group) for group in groups.values())
    columns = {name: [value] for name, value in values.items()}
    for replaced in (tuple(pair for group in sets for pair in group), *sets) if sets else ():
        at = {feature.name: package.encode(feature, value) for feature, value in replaced}
        for name, column in columns.items():
            column.append(at.get(name, column[0]))
    return Occluding(sets, columns)


def _explanation(
    output: Output,
    sets: Sequence[tuple[tuple[Feature, Any], ...]],
    outputs: Mapping[str, Sequence[float]],
) -> Explanation | None:
    """None where the output is at the end of its scale."""
    attribution = output.attribution or OCCLUSION
    try:
        total, base, *without = map(SCALES[attribution.scale], outputs[output.name])
    except (ValueError, ZeroDivisionError):
        return None
    parts = tuple(
        Contribution(one, total - value) for one, value in zip(sets, without, strict=True)
    )
    return Explanation(output.name, attribution, base, total, parts)


def extension(explanation: Explanation) -> Json:
    """Documented in ``ig/pagecontent/predict.md``."""
    method, scale = explanation.attribution.method, explanation.attribution.scale
    parts: list[Json] = [
        {"url": "output", "valueCode": explanation.output},
        {"url": "method", "valueCode": method},
        {"url": "exact", "valueBoolean": method != "occlusion"},
        {"url": "scale", "valueCode": scale},
        {"url": "base", "valueDecimal": _decimal(explanation.base)},
        {"url": "total", "valueDecimal": _decimal(explanation.total)},
    ]
    parts += [{"url": "contribution", "extension": _part(one)} for one in explanation.parts]
    return {"url": CONTRIBUTION, "extension": parts}


def _part(contribution: Contribution) -> list[Json]:
    told: list[Json] = []
    for feature, reference in contribution.features:
        told.append({"url": "feature", "valueCode": feature.name})
        told.append({"url": "reference", **_value(feature, reference)})
    return [*told, {"url": "value", "valueDecimal": _decimal(contribution.added)}]


def _value(feature: Feature, reference: Any) -> Json:
    if isinstance(reference, bool):
        return {"valueBoolean": reference}
    if isinstance(reference, str):
        return {"valueCode": reference}
    quantity = {"value": Decimal(reference), "unit": feature.unit}
    return {
        "valueQuantity": quantity | {"system": "http://unitsofmeasure.org", "code": feature.unit}
    }


def _decimal(value: float) -> Decimal:
    """Nine places, without an exponent."""
    rounded = Decimal(repr(value)).quantize(PLACES)
    return rounded + 0 if rounded else Decimal(0)
