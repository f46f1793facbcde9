"""Loading a model package from its folder, checked before anything runs.

Raises ``PackageError`` with the reason: a part that is missing, a manifest that does not fit
its schema, a name that is not defined. The golden vectors are run by the registry.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import jsonschema
import msgspec

from fhir_server.fhirpath import FhirPathError, compile
from operations.deid.text.tagging.features import ROWS

from .intake.archive import NAMES
from .manifest import Card, Concept, Feature, Features, Golden, GoldenText, every
from .monitoring.distributions import Reference

PARTS: Final = ("model.onnx", "card.toml", "golden.json")
FEATURES: Final = "features.toml"
"""What every package has but one of free text, whose features are the program's own."""
TAGGER: Final = "name-tagger"
"""The model of free text: by this name it is known which version reads texts."""
LARGEST_GRAPH: Final = 512 * 1024 * 1024

T = TypeVar("T")


class PackageError(Exception):
    """The package cannot be loaded; the text is the reason."""


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """One version of a model, its manifests decoded, its graph still a file.

    ``files``: the SHA-256 of each file; that of ``model.onnx`` is checked again by the worker
    that loads it.
    """

    folder: Path
    card: Card
    features: Features
    golden: tuple[Golden, ...]
    files: Mapping[str, str]
    concepts: Mapping[str, Concept]
    reference: Reference | None = None
    text: GoldenText | None = None
    """Of a "Tagging": its golden vector."""

    @property
    def id(self) -> str:
        """``name-version``, also the id of its Device."""
        return f"{self.card.name}-{self.card.version}"

    @property
    def sha256(self) -> str:
        """Of ``model.onnx``."""
        return self.files["model.onnx"]

    @property
    def graph(self) -> Path:
        return self.folder / "model.onnx"

    def encode(self, feature: Feature, value: bool | str | float | Decimal) -> float:
        """A feature value as the graph takes it. Raises ValueError for an unknown choice."""
        if not feature.choices:
            return float(value)
        if not isinstance(value, str) or value not in feature.choices:
            known = ", ".join(feature.choices)
            raise ValueError(f"{feature.name} is one of {known}")
        return float(feature.choices[value])


@cache
def shared_concepts() -> Mapping[str, Concept]:
    """The value lists that come with the server (``concepts.toml``)."""
    text = resources.files(__package__).joinpath("concepts.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Concept])


def load(folder: Path) -> ModelPackage:
    """Read and check one package. Raises PackageError."""
    for part in PARTS:
        if not (folder / part).is_file():
            raise PackageError(f"{part} is missing")
    if (folder / "model.onnx").stat().st_size > LARGEST_GRAPH:
        raise PackageError(f"model.onnx is larger than {LARGEST_GRAPH} bytes")
    return of_parts({p.name: p.read_bytes() for p in folder.iterdir() if p.name in NAMES}, folder)


def of_parts(parts: Mapping[str, bytes], folder: Path) -> ModelPackage:
    """The package of these files, which lie (or will lie) in ``folder``. Raises PackageError."""
    for part in PARTS:
        if part not in parts:
            raise PackageError(f"{part} is missing")
    card = _manifest("card.toml", parts, Card)
    if (card.result == "Tagging") is not (card.name == TAGGER):
        raise PackageError(f"card.toml: {TAGGER} is the name of every Tagging, and of nothing else")
    if card.name == TAGGER:
        return _of_text(card, parts, folder)
    if FEATURES not in parts:
        raise PackageError(f"{FEATURES} is missing")
    features = _manifest("features.toml", parts, Features)
    golden = _golden(parts["golden.json"])
    twice = sorted(set(features.concept) & set(shared_concepts()))
    if twice:
        raise PackageError(f"features.toml: concepts of the server: {', '.join(twice)}")
    concepts = {**shared_concepts(), **features.concept}
    _check_names(card, features, concepts)
    _check_golden(features, golden)
    _check_references(features)
    _check_expressions(features)
    reference = _reference(parts)
    return ModelPackage(folder, card, features, golden, digests(parts), concepts, reference)


def _of_text(card: Card, parts: Mapping[str, bytes], folder: Path) -> ModelPackage:
    if card.tags is None or card.tags.rows != ROWS:
        raise PackageError(f"card.toml: tags: it reads rows of another form than {ROWS}")
    try:
        golden = msgspec.json.decode(parts["golden.json"], type=GoldenText)
    except msgspec.MsgspecError as error:
        raise PackageError(f"golden.json: {error}") from error
    none = Features((), ())
    return ModelPackage(folder, card, none, (), digests(parts), {}, text=golden)


def _reference(parts: Mapping[str, bytes]) -> Reference | None:
    if "reference.json" not in parts:
        return None
    try:
        return Reference.read(json.loads(parts["reference.json"]))
    except (ValueError, RecursionError) as error:
        raise PackageError(f"reference.json: {error}") from error


def digests(parts: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file by name, in order of the names."""
    return {name: hashlib.sha256(parts[name]).hexdigest() for name in sorted(parts)}


def _manifest(name: str, parts: Mapping[str, bytes], kind: type[T]) -> T:
    try:
        text = parts[name].decode()
        return cast(T, _checked(name.removesuffix(".toml"), text, cast(Any, kind)))
    except jsonschema.ValidationError as error:
        raise PackageError(f"{name}: {error.json_path}: {error.message}") from error
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise PackageError(f"{name}: {error}") from error


@lru_cache(maxsize=64)
def _checked(name: str, text: str, kind: type[Any]) -> Any:
    """A manifest by its content: to judge one costs more than the rest of a package."""
    data = tomllib.loads(text, parse_float=Decimal)
    _validator(name).validate(data)
    return msgspec.convert(data, kind)


@cache
def _validator(name: str) -> Any:
    schema = resources.files(__package__).joinpath(f"{name}.schema.json")
    return jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))


def _golden(content: bytes) -> tuple[Golden, ...]:
    try:
        vectors = msgspec.json.decode(content, type=tuple[Golden, ...])
    except msgspec.MsgspecError as error:
        raise PackageError(f"golden.json: {error}") from error
    if not vectors:
        raise PackageError("golden.json: it has no vectors")
    return vectors


def _check_names(card: Card, features: Features, concepts: Mapping[str, Concept]) -> None:
    """Every concept and output that a manifest names exists; names are unique."""
    asked = list(every(features.feature))
    named = [name for f in asked for name in (f.concept, f.yes, f.no) if name]
    named += [name for f in asked for name in f.concepts.values() if f.kind != "fhirpath"]
    named += [e.concept for e in features.exclusion] + [i.concept for i in features.indication]
    named += [outcome.concept for outcome in card.outcome]
    _known("concept", named, concepts)
    outputs = [o.name for o in features.output]
    _known("output", (b.output for b in card.band), outputs)
    _known("output", (o.output for o in card.outcome), outputs)
    _known("output", [card.alert.output] if card.alert else [], outputs)
    inputs = [f.name for f in features.feature]
    for what, names in (("feature", inputs), ("output", outputs)):
        if len(set(names)) != len(names):
            raise PackageError(f"features.toml: a {what} is named twice")


def _check_references(features: Features) -> None:
    """The values that contributions are measured against are values of their features."""
    for feature in features.feature:
        if feature.reference is not None and not _fits(feature):
            raise PackageError(f"features.toml: {feature.name}: reference is no value of it")


def _check_expressions(features: Features) -> None:
    """They are FHIRPath, and what is computed uses its parts."""
    for feature in every(features.feature):
        computed = feature.compute
        for text in (feature.expression, computed.expression if computed else ""):
            try:
                if text:
                    compile(text)
            except FhirPathError as error:
                raise PackageError(f"features.toml: {feature.name}: {error}") from error
        for part in computed.part if computed else ():
            if computed and f"%{part.name}" not in computed.expression.replace("`", ""):
                raise PackageError(f"features.toml: {feature.name} does not use {part.name}")


def _fits(feature: Feature) -> bool:
    value: object = feature.reference
    if feature.choices:
        return value in feature.choices
    if feature.boolean:
        return isinstance(value, bool)
    bounds = feature.plausible or feature.population
    plain = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return plain and (bounds is None or bounds[0] <= Decimal(str(value)) <= bounds[1])


def _check_golden(features: Features, golden: tuple[Golden, ...]) -> None:
    inputs = {f.name for f in features.feature}
    outputs = {o.name for o in features.output}
    for vector in golden:
        if set(vector.inputs) != inputs:
            raise PackageError("golden.json: a vector does not name exactly the features")
        _known("output", vector.expected, outputs)
    covered = {name for vector in golden for name in vector.expected}
    if covered != outputs:
        missing = ", ".join(sorted(outputs - covered))
        raise PackageError(f"golden.json: no vector expects {missing}")


def _known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise PackageError(f"unknown {what}: {', '.join(unknown)}")
