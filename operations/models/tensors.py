"""Tensors of the Open Inference Protocol v2 as the columns of a graph, and back.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md. A
graph of this server takes one value per row and feature: tensors of the shape [N] or [N, 1], in
JSON, row by row. Values that the manifest takes for errors, or for people whom the model is not
for, are refused as in ``$predict``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest

from .manifest import Feature
from .package import ModelPackage

PLATFORM: Final = "onnxruntime_onnx"
MOST_ROWS: Final = 10_000
MOST_TENSORS: Final = 1_000
REQUEST: Final = frozenset({"id", "parameters", "inputs", "outputs"})
INPUT: Final = frozenset({"name", "shape", "datatype", "parameters", "data"})
OUTPUT: Final = frozenset({"name", "parameters"})
DEEPEST: Final = 3


def datatype(feature: Feature) -> str:
    """In which a feature is told of; others that hold its values are taken too."""
    if feature.choices:
        return "INT64"
    return "BOOL" if feature.boolean else "FP64"


def metadata(package: ModelPackage, versions: Sequence[str]) -> Json:
    """``$metadata_model_response``."""
    features, outputs = package.features.feature, package.features.output
    return {
        "name": package.card.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [{"name": f.name, "datatype": datatype(f), "shape": [-1]} for f in features],
        "outputs": [{"name": o.name, "datatype": "FP64", "shape": [-1]} for o in outputs],
    }


@dataclass(frozen=True, slots=True)
class Tensors:
    """One request: a column per feature, and which outputs are wanted."""

    id: str | None
    columns: dict[str, list[float]]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, request: Any, package: ModelPackage) -> Tensors:
        """``$inference_request``. BadRequest names what is wrong with it."""
        _members("the request", request, REQUEST)
        id_ = request.get("id")
        if id_ is not None and not isinstance(id_, str):
            raise BadRequest("id: a string")
        features = {feature.name: feature for feature in package.features.feature}
        columns: dict[str, list[float]] = {}
        for tensor in _list("inputs", request.get("inputs")):
            name = _name("an input", tensor, INPUT, features)
            if name in columns:
                raise BadRequest(f"input {name} is given twice")
            columns[name] = _column(features[name], tensor)
        missing = [name for name in features if name not in columns]
        if missing:
            raise BadRequest(f"missing inputs: {', '.join(missing)}")
        if len({len(column) for column in columns.values()}) != 1:
            raise BadRequest("the inputs differ in their number of rows")
        known = {output.name: output for output in package.features.output}
        wanted = request.get("outputs")
        chosen = [] if wanted is None else _list("outputs", wanted)
        names = [_name("an output", one, OUTPUT, known) for one in chosen]
        return cls(id_, columns, tuple(names or known))

    def answer(self, package: ModelPackage, outputs: Mapping[str, Sequence[float]]) -> Json:
        """``$inference_response``."""
        rows = len(next(iter(self.columns.values())))
        card = package.card
        return {
            "model_name": card.name,
            "model_version": card.version,
            **({"id": self.id} if self.id is not None else {}),
            "outputs": [
                {"name": name, "datatype": "FP64", "shape": [rows], "data": _numbers(outputs[name])}
                for name in self.outputs
            ],
        }


def _numbers(values: Sequence[float]) -> list[Decimal]:
    return [Decimal(repr(value)) for value in values]


def _members(what: str, value: Any, known: frozenset[str]) -> None:
    """An object with these members, without parameters that nobody here understands."""
    if not isinstance(value, dict):
        raise BadRequest(f"{what}: an object")
    for name in value:
        if name not in known:
            raise BadRequest(f"{what}: unknown member {str(name)[:64]!r}")
    parameters = value.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise BadRequest(f"{what}: parameters is an object")
    for name in parameters or ():
        raise BadRequest(f"{what}: the parameter {str(name)[:64]!r} is not supported")


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value or len(value) > MOST_TENSORS:
        raise BadRequest(f"{name}: an array of 1 to {MOST_TENSORS} objects")
    return value


def _name(what: str, value: Any, members: frozenset[str], known: Mapping[str, Any]) -> str:
    _members(what, value, members)
    name = value.get("name")
    if not isinstance(name, str) or name not in known:
        raise BadRequest(f"{what}: {str(name)[:64]!r} is none of {', '.join(known)}")
    return name


def _column(feature: Feature, tensor: Json) -> list[float]:
    name, shape = feature.name, tensor.get("shape")
    if not isinstance(shape, list) or not all(type(one) is int and one >= 0 for one in shape):
        raise BadRequest(f"input {name}: shape is an array of whole numbers")
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]) or not 1 <= shape[0] <= MOST_ROWS:
        raise BadRequest(f"input {name}: its shape is [N] or [N, 1], with N from 1 to {MOST_ROWS}")
    kind = tensor.get("datatype")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise BadRequest(f"input {name}: its datatype is one of {', '.join(_READERS)}")
    data: list[Any] = []
    _flatten(tensor.get("data"), data, DEEPEST, name)
    if len(data) != shape[0]:
        raise BadRequest(f"input {name}: {len(data)} values are no tensor of the shape {shape}")
    column = []
    for row, value in enumerate(data):
        number = reader(value)
        if number is None:
            raise BadRequest(f"input {name}, row {row}: it is no {kind}")
        fault = _fault(feature, number)
        if fault:
            raise BadRequest(f"input {name}, row {row}: {fault}")
        column.append(number)
    return column


def _flatten(value: Any, into: list[Any], depth: int, name: str) -> None:
    if not isinstance(value, list) or depth == 0:
        raise BadRequest(f"input {name}: data is an array, flat or nested as the shape is")
    for one in value:
        if isinstance(one, list):
            _flatten(one, into, depth - 1, name)
        else:
            into.append(one)
        if len(into) > MOST_ROWS:
            raise BadRequest(f"input {name}: more than {MOST_ROWS} values", code="too-costly")


def _fault(feature: Feature, value: float) -> str:
    """Why a value cannot be used, "" if it can."""
    if feature.choices:
        known = sorted(feature.choices.values())
        return "" if value in known else f"it is one of {known}"
    if feature.boolean:
        return "" if value in (0.0, 1.0) else "it is 0 or 1"
    for bounds, what in (
        (feature.plausible, "not plausible"),
        (feature.population if feature.outside == "refuse" else None, "outside the population"),
    ):
        if bounds is not None and not float(bounds[0]) <= value <= float(bounds[1]):
            return f"{value:g} {feature.told_unit} is {what} ({bounds[0]} to {bounds[1]})"
    return ""


def _floating(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _single(value: Any) -> float | None:
    """FP32 holds what it holds; the graph takes the double of the written number."""
    number = _floating(value)
    return number if number is not None and abs(number) < 3.5e38 else None


def _whole(value: Any) -> float | None:
    good = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return float(value) if good else None


def _truth(value: Any) -> float | None:
    return float(value) if isinstance(value, bool) else None


_READERS: Final = {"FP64": _floating, "FP32": _single, "INT64": _whole, "BOOL": _truth}
"""What each datatype is read by; None: the value is not of it."""
