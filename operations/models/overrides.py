"""What-if values: a caller's ``override`` in place of what the record shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

from ..parameters import Value
from .evidence import matches
from .kinds import Row
from .manifest import Concept, Feature
from .package import ModelPackage
from .units import measure

Overrides: TypeAlias = Mapping[str, Value]
"""By feature name, or by the concept of an exclusion."""


def resolve(
    given: Iterable[tuple[str, Value]], packages: Iterable[ModelPackage]
) -> dict[str, Value]:
    """Overrides by feature name. A feature may also be given by one of its codes.

    Raises Unprocessable for a name that no model knows and for one given twice.
    """
    names: dict[str, str] = {}
    for package in packages:
        for feature in package.features.feature:
            names[feature.name] = feature.name
            names.update((code, feature.name) for _, code in feature.codes)
        names.update((e.concept, e.concept) for e in package.features.exclusion)
        names.update((i.concept, i.concept) for i in package.features.indication)
    found: dict[str, Value] = {}
    for text, value in given:
        name = names.get(text) or names.get(text.lower().replace("_", "-"))
        if name is None:
            known = ", ".join(sorted(set(names.values())))
            raise Unprocessable(f"override: unknown feature {text!r}; known: {known}", code="value")
        if name in found:
            raise Unprocessable(f"override: feature {name!r} is given twice", code="duplicate")
        found[name] = value
    return found


def row(feature: Feature, value: Value, concepts: Mapping[str, Concept]) -> Row:
    """The overridden feature. Raises Unprocessable when the value is not of its kind."""
    try:
        decoded, how = _reader(feature)(feature, value, concepts)
    except ValueError as error:
        raise Unprocessable(f"override: {feature.name}: {error}", code="value") from error
    return Row(feature, decoded, "override", original=tuple(value), how=how)


def flag(name: str, value: Value) -> bool:
    """A yes or no. Raises Unprocessable."""
    if value.member != "valueBoolean" or not isinstance(value.json, bool):
        raise Unprocessable(f"override: {name} is a valueBoolean", code="value")
    return value.json


def _number(feature: Feature, value: Value, concepts: Mapping[str, Concept]) -> tuple[Decimal, str]:
    if value.member == "valueQuantity" and isinstance(value.json, dict):
        return measure(value.json, feature)
    plain = isinstance(value.json, int | Decimal) and not isinstance(value.json, bool)
    if value.member in ("valueDecimal", "valueInteger") and plain:
        return Decimal(value.json), ""
    raise ValueError(f"it is a valueQuantity, or a valueDecimal in {feature.unit}")


def _age(feature: Feature, value: Value, concepts: Mapping[str, Concept]) -> tuple[Decimal, str]:
    number, how = _number(feature, value, concepts)
    if number != number.to_integral_value():
        raise ValueError("it is a whole number of years")
    return number, how


def _choice(feature: Feature, value: Value, concepts: Mapping[str, Concept]) -> tuple[str, str]:
    text = value.json.get("code") if value.member == "valueCoding" else value.json
    if isinstance(text, str):
        name = text.strip().lower().replace(" ", "-").replace("_", "-")
        if name in feature.choices:
            return name, ""
    raise ValueError(f"it is a valueCode, one of {', '.join(feature.choices)}")


def _flag(feature: Feature, value: Value, concepts: Mapping[str, Concept]) -> tuple[bool, str]:
    if value.member == "valueBoolean" and isinstance(value.json, bool):
        return value.json, ""
    coded = _concept(value)
    if feature.kind == "answer" and coded is not None:
        yes, no = (bool(matches(coded, concepts[n])) for n in (feature.yes, feature.no))
        if yes != no:
            return yes, ""
    raise ValueError("it is a valueBoolean")


def _concept(value: Value) -> Json | None:
    if value.member == "valueCoding":
        return {"coding": [value.json]}
    coded: Json | None = value.json if value.member == "valueCodeableConcept" else None
    return coded


def _reader(feature: Feature) -> _Reader:
    if feature.kind != "fhirpath":
        return _READERS[feature.kind]
    if feature.choices:
        return _choice
    return _flag if feature.boolean else _number


_Reader: TypeAlias = Callable[[Feature, Value, Mapping[str, Concept]], tuple[Any, str]]
_READERS: Final[Mapping[str, _Reader]] = {
    "age": _age,
    "choice": _choice,
    "quantity": _number,
    "answer": _flag,
    "condition": _flag,
    "medication": _flag,
}
