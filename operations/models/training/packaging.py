"""The files of a candidate: graph, card, features, golden vectors, reference, report.

Golden vectors are drawn feature by feature from what the training rows were like, so that none of
them is anybody's; their results are scikit-learn's, not the graph's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

from ..manifest import Feature
from ..monitoring.distributions import Reference
from ..package import ModelPackage, PackageError, of_parts
from .evaluation import Vector
from .fitting import Fitted
from .spec import Spec
from .writing import toml

VECTORS: Final = 12
EXACT, SINGLE = 1e-9, 1e-6
"""Tolerances of golden vectors: of sums in doubles, of trees."""


def features_of(spec: Spec) -> str:
    """``features.toml``."""
    target = spec.outcome
    output: Json = {"name": target.name, "title": target.title}
    if target.within.endswith("Y"):
        output["years"] = int(target.within[1:-1])
    referred = any("reference" in feature for feature in spec.features["feature"])
    if spec.pipeline.kind != "boosted" and referred:
        scale = "logit" if spec.pipeline.kind == "logistic" else "cloglog"
        output["attribution"] = {"method": "linear", "scale": scale}
    return toml({**spec.features, "output": [output]})


def card_of(spec: Spec, report: Mapping[str, Any] | None) -> str:
    """``card.toml``. ``report``: None before there is one."""
    target = spec.outcome
    return toml(
        {
            "name": spec.name,
            "version": spec.version,
            "title": spec.title,
            "result": "RiskAssessment",
            "intended_use": spec.intended_use,
            "population": spec.population,
            "training_data": _data(report) if report else "-",
            **({"data_years": list(spec.data_years)} if spec.data_years else {}),
            "licence": spec.licence,
            "limits": list(spec.limits),
            "source": {
                "citation": "Trained on the record of this server; report.json says how.",
                "url": "report.json",
            },
            "metric": _metrics(report) if report else [{"name": "-", "value": "-", "source": "-"}],
            "outcome": [
                {"output": target.name, "concept": target.concept, "within": target.within}
            ],
        }
    )


def _data(report: Mapping[str, Any]) -> str:
    train, test = report["rows"]["train"], report["rows"]["test"]
    return (
        f"{train['rows']} rows of {train['patients']} patients with {train['events']} events "
        f"trained; {test['rows']} of {test['patients']} other patients with {test['events']} "
        f"events, from {report['split']} on, tested. Data set sha256 {report['data']}, position "
        f"{report['position']} of the change feed."
    )


def _metrics(report: Mapping[str, Any]) -> list[Json]:
    rows = []
    for name in ("auroc", "brier", "brier_skill", "slope", "intercept"):
        found = report["test"].get(name)
        if found:
            value = f"{found['value']} (95 % {found['low']} to {found['high']})"
            rows.append({"name": name, "value": value, "source": "test rows, report.json"})
    passed = "passed" if report["gate"]["passed"] else "not passed"
    return [*rows, {"name": "gate", "value": passed, "source": "report.json"}]


def unfinished(spec: Spec) -> ModelPackage:
    """The package before it has a graph: what the record is read by. Raises Unprocessable."""
    named = [one.get("name", "") for one in spec.features["feature"] if isinstance(one, dict)]
    blank = {"inputs": dict.fromkeys(named, 0), "expected": {spec.outcome.name: 0}}
    vector = {**blank, "tolerance": 0, "kind": "none", "source": "none"}
    parts = {
        "model.onnx": b"",
        "card.toml": card_of(spec, None).encode(),
        "features.toml": features_of(spec).encode(),
        "golden.json": json.dumps([vector]).encode(),
    }
    try:
        return of_parts(parts, Path())
    except PackageError as error:
        raise Unprocessable(f"the specification: {error}") from error


def golden_of(package: ModelPackage, spec: Spec, values: Vector, fitted: Fitted) -> list[Json]:
    """``golden.json``. ``values``: the training rows, [rows, features]."""
    features = package.features.feature
    random = np.random.default_rng(spec.seed)
    levels = random.uniform(0.05, 0.95, (VECTORS, len(features)))
    table = np.empty_like(levels)
    for i, feature in enumerate(features):
        drawn = np.quantile(values[:, i], levels[:, i], method="nearest")
        table[:, i] = [_rounded(feature, value) for value in drawn]
    expected = fitted.probability(table)
    tolerance = SINGLE if spec.pipeline.kind == "boosted" else EXACT
    return [
        {
            "inputs": {f.name: _told(f, x) for f, x in zip(features, row, strict=True)},
            "expected": {spec.outcome.name: float(probability)},
            "tolerance": tolerance,
            "kind": "computed",
            "source": "the fitted pipeline, of values drawn feature by feature",
        }
        for row, probability in zip(table, expected, strict=True)
    ]


def _rounded(feature: Feature, value: float) -> float:
    if feature.choices or feature.boolean or feature.kind == "age":
        return float(round(value))
    return float(f"{value:.2g}")


def _told(feature: Feature, value: float) -> bool | str | float:
    if feature.choices:
        return next(name for name, number in feature.choices.items() if number == value)
    return bool(value) if feature.boolean else float(value)


def reference_of(package: ModelPackage, output: str, values: Vector, probability: Vector) -> Json:
    """``reference.json``, of the training rows."""
    names = [feature.name for feature in package.features.feature]
    inputs = {name: list(map(float, values[:, i])) for i, name in enumerate(names)}
    found: Json = Reference.of(inputs, {output: list(map(float, probability))}).to_json()
    return found


def finished(files: Mapping[str, bytes], names: Sequence[str]) -> ModelPackage:
    """The whole package, read as every other one is. Raises Unprocessable."""
    try:
        package = of_parts(files, Path())
    except PackageError as error:
        raise Unprocessable(f"the candidate: {error}") from error
    assert tuple(feature.name for feature in package.features.feature) == tuple(names)
    return replace(package)
