"""From a specification and its data set to the files of a candidate: a pure function.

The order is the point: the graph is written and hashed from the training rows alone, and only then
are the rows of the test looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

from .dataset import DataSet, Line, subgroups
from .evaluation import FEWEST, Judged, Numbers, Vector, compare, judge
from .fitting import PARITY, Fitted, fit, parity, run, versions
from .packaging import card_of, features_of, golden_of, reference_of, unfinished
from .spec import Baseline, Gate, Spec, read_spec
from .survival import compared_by_times, judged_by_times

LEAST: Final = 50
"""Rows to train with, and to test with."""


def make(text: str, data: DataSet) -> dict[str, bytes]:
    """The files by name. ``text``: the specification. Raises Unprocessable, NotSupported."""
    spec = read_spec(text)
    _enough(spec, data)
    train, output = data.part("train"), spec.outcome.name
    values = _matrix(train)
    fitted = fit(data.features, spec, train)
    frozen = hashlib.sha256(fitted.graph).hexdigest()
    report = _report(spec, text, data, fitted, frozen)
    package = unfinished(spec)
    probability = run(fitted.graph, data.features, output, values)
    reference = reference_of(package, output, values, probability)
    files = {
        "model.onnx": fitted.graph,
        "features.toml": features_of(spec).encode(),
        "card.toml": card_of(spec, report).encode(),
        "golden.json": _json(golden_of(package, spec, values, fitted)),
        "reference.json": _json(reference),
        "report.json": _json(report),
    }
    return dict(sorted(files.items()))


def _enough(spec: Spec, data: DataSet) -> None:
    """Raises Unprocessable for a data set that says too little, or is not the recorded one."""
    if spec.data and spec.data != data.sha256:
        raise Unprocessable(f"the data set is {data.sha256}, not the recorded {spec.data}")
    for part in ("train", "test"):
        whole = data.part("train" if part == "train" else "test")
        lines = [line for line in whole if line.weight > 0]
        events = sum(line.happened for line in lines)
        if len(lines) < LEAST or min(events, len(lines) - events) < FEWEST:
            why = "; ".join(f"{count} rows: {reason}" for reason, count in data.left_out.items())
            raise Unprocessable(
                f"too little to {part}: {len(lines)} rows with {events} events, of at least "
                f"{LEAST} rows and {FEWEST} of each kind" + (f" (left out: {why})" if why else ""),
                code="incomplete",
            )


def _matrix(lines: Sequence[Line]) -> Vector:
    return np.array([line.values for line in lines], dtype=np.float64)


def _report(spec: Spec, text: str, data: DataSet, fitted: Fitted, frozen: str) -> Json:
    """``report.json``: everything that was measured, and what it was made of."""
    train, test = data.part("train"), data.part("test")
    names, output = data.features, spec.outcome.name
    table = _matrix([*train, *test])
    apart = parity(fitted, names, output, table)
    if apart > PARITY:
        raise Unprocessable(f"the graph differs from scikit-learn by {apart:.2g}")
    predicted = run(fitted.graph, names, output, _matrix(test))
    measured, groups = _measured(spec, test, predicted)
    rival = _rival(spec, test, predicted)
    return {
        "model": f"{spec.name}-{spec.version}",
        "frozen": frozen,
        "specification": hashlib.sha256(text.encode()).hexdigest(),
        "data": data.sha256,
        "position": data.position,
        "seed": spec.seed,
        "versions": versions(),
        "split": spec.cohort.split if spec.cohort else spec.split.at,
        "left_out": data.left_out,
        "rows": {"train": _counts(train), "test": _counts(test)},
        "pipeline": spec.pipeline.kind,
        "weights": fitted.weights,
        "parity": {"rows": len(table), "greatest_difference": float(f"{apart:.2g}")},
        "test": measured,
        "subgroups": groups,
        **({"baseline": rival} if rival else {}),
        "gate": passed(spec.gate, measured, rival),
    }


def _measured(
    spec: Spec, test: Sequence[Line], predicted: Vector
) -> tuple[Numbers, dict[str, Numbers]]:
    """As a whole and by subgroups, of those whose outcome is known; Harrell's C of all."""
    samples, seed = spec.gate.samples, spec.seed
    places = [i for i, line in enumerate(test) if line.weight > 0]
    known = [test[i] for i in places]
    judged = Judged.of(
        [line.happened for line in known],
        list(predicted[places]),
        [line.patient for line in known],
        [line.weight for line in known],
    )
    measured = judge(judged, samples, seed)
    timed = judged_by_times(test, predicted, samples, seed)
    if timed:
        measured["concordance"] = timed
    groups = {
        name: judge(judged.at(some), samples, seed) for name, some in subgroups(known).items()
    }
    return measured, groups


def _counts(lines: Sequence[Line]) -> dict[str, int]:
    left = sum(line.weight == 0 for line in lines)
    return {
        "rows": len(lines),
        "patients": len({line.patient for line in lines}),
        "events": sum(line.happened for line in lines),
        **({"left_early": left} if left else {}),
    }


def _rival(spec: Spec, test: Sequence[Line], predicted: Vector) -> Json | None:
    """Against the baseline, on the rows for which that says something."""
    baseline = spec.gate.baseline
    if baseline is None:
        return None
    places = [i for i, line in enumerate(test) if line.rival is not None]
    told = {"model": baseline.model, "output": baseline.output}
    some = [test[i] for i in places]
    events = sum(line.happened for line in some)
    if len(places) < LEAST or not 0 < events < len(places):
        return {**told, "rows": len(places), "not_inferior": False, "note": "too few rows"}
    return {**told, **_compared(spec, baseline, some, predicted[places])}


def _compared(spec: Spec, baseline: Baseline, lines: Sequence[Line], ours: Vector) -> Numbers:
    samples, seed = spec.gate.samples, spec.seed
    if baseline.measure == "concordance":
        return compared_by_times(lines, ours, baseline.margin, samples, seed, baseline.looks)
    who = [line.patient for line in lines]
    judged = Judged.of([line.happened for line in lines], list(ours), who)
    rival = np.array([line.rival for line in lines], dtype=np.float64)
    return compare(judged, rival, baseline.margin, samples, seed, baseline.looks)


def passed(gate: Gate, test: Mapping[str, Any], rival: Mapping[str, Any] | None) -> Json:
    """Each condition of the gate with what was found. A measure that is not there fails."""

    def found(name: str, part: str = "value") -> float:
        return float(test[name][part]) if name in test else float("nan")

    checks = [
        ("auroc", found("auroc"), f"at least {gate.auroc}", found("auroc") >= gate.auroc),
        (
            "auroc, lower bound",
            found("auroc", "low"),
            f"at least {gate.auroc_low}",
            found("auroc", "low") >= gate.auroc_low,
        ),
        (
            "brier skill",
            found("brier_skill"),
            f"at least {gate.brier_skill}",
            found("brier_skill") >= gate.brier_skill,
        ),
        ("events", test["events"], f"at least {gate.events}", test["events"] >= gate.events),
    ]
    for name, (low, high) in (("slope", gate.slope), ("intercept", gate.intercept)):
        checks.append((name, found(name), f"{low} to {high}", low <= found(name) <= high))
    if rival is not None:
        margin = f"not inferior to {rival['model']} by more than {rival.get('margin', 'n/a')}"
        checks.append(("baseline", rival.get("low"), margin, bool(rival["not_inferior"])))
    rows = [
        {"name": name, "found": None if value != value else value, "wanted": wanted, "passed": ok}
        for name, value, wanted, ok in checks
    ]
    return {"passed": all(row["passed"] for row in rows), "conditions": rows}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n").encode()
