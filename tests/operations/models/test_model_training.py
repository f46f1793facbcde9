"""From rows to a candidate: the same twice, the graph like scikit-learn, the measures right."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import cohorts
import numpy as np
import pytest

from fhir_server.model.problem import Unprocessable
from operations.models.gate import gate_fault
from operations.models.intake.graph import judge as judge_graph
from operations.models.monitoring.distributions import Reference
from operations.models.package import of_parts
from operations.models.training.dataset import DataSet, apart
from operations.models.training.evaluation import Judged, auroc, calibration, compare, judge
from operations.models.training.fitting import run
from operations.models.training.making import make, passed
from operations.models.training.spec import read_spec
from operations.models.training.writing import toml

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@cache
def made(kind: str = "logistic") -> dict[str, bytes]:
    """The candidate of the usual rows."""
    return make(cohorts.spec(kind), cohorts.rows())


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_the_same_rows_and_seed_give_the_same_bytes(kind: str) -> None:
    data = cohorts.rows()
    turned = replace(data, lines=tuple(reversed(data.lines)))
    files = made(kind)
    assert files == make(cohorts.spec(kind), turned)
    judge_graph(files["model.onnx"])


@pytest.mark.parametrize("kind", ["logistic", "boosted"])
def test_the_candidate_is_a_package_whose_report_is_true(kind: str) -> None:
    from sklearn.metrics import brier_score_loss, roc_auc_score

    data = cohorts.rows()
    files = made(kind)
    package = of_parts(files, Path())
    report = json.loads(files["report.json"])
    test = data.part("test")
    names = [feature.name for feature in package.features.feature]
    table = np.array([line.values for line in test])
    happened = np.array([line.happened for line in test], float)
    found = run(files["model.onnx"], names, "infarction", table)
    assert report["test"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(happened, found), abs=1e-4
    )
    loss = brier_score_loss(happened, found)
    assert report["test"]["brier"]["value"] == pytest.approx(loss, abs=1e-4)
    assert report["parity"]["rows"] == len(data.lines)
    assert report["parity"]["greatest_difference"] <= (1e-12 if kind == "logistic" else 1e-6)
    assert report["frozen"] == package.sha256 and report["gate"]["passed"] is True
    assert {"sex female", "sex male", "age 40-64"} <= set(report["subgroups"])
    assert package.card.outcome[0].within == "P2Y" and package.reference is not None
    for vector in package.golden:
        row = [package.encode(f, vector.inputs[f.name]) for f in package.features.feature]
        got = run(files["model.onnx"], names, "infarction", np.array([row]))
        assert got[0] == pytest.approx(vector.expected["infarction"], abs=vector.tolerance)


def test_golden_vectors_are_nobodys() -> None:
    data = cohorts.rows()
    rows = {line.values for line in data.lines}
    package = of_parts(made(), Path())
    features = package.features.feature
    drawn = {tuple(package.encode(f, v.inputs[f.name]) for f in features) for v in package.golden}
    assert len(drawn & rows) <= 1  # few different values: one may meet somebody by chance


def test_the_reference_is_that_of_the_training_rows() -> None:
    data = cohorts.rows()
    files = made()
    reference = Reference.read(json.loads(files["reference.json"]))
    assert sum(reference.inputs["sbp"].counts) == len(data.part("train"))
    assert sum(reference.outputs["infarction"].counts) == len(data.part("train"))


def test_a_gate_that_is_not_met_stops_the_champion(tmp_path: Path) -> None:
    files = dict(made())
    report = json.loads(files["report.json"])
    report["gate"] = passed(read_spec(cohorts.spec(auroc=0.99)).gate, report["test"], None)
    files["report.json"] = json.dumps(report).encode()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    package = of_parts(files, tmp_path)
    assert gate_fault(package) == "auroc"
    broken = {**files, "report.json": b'{"gate": {"passed": false}}'}
    (tmp_path / "report.json").write_bytes(broken["report.json"])
    assert "cannot be read" in gate_fault(of_parts(broken, tmp_path))


def test_the_rows_of_the_test_do_not_move_the_graph() -> None:
    data = cohorts.rows()
    flipped = tuple(
        line._replace(happened=not line.happened) if line.part == "test" else line
        for line in data.lines
    )
    graph = made()["model.onnx"]
    assert make(cohorts.spec(), replace(data, lines=flipped))["model.onnx"] == graph


def test_another_data_set_than_the_recorded_one_is_refused() -> None:
    data = cohorts.rows()
    again = cohorts.spec(more=f'data = "{data.sha256}"')
    assert make(again, data)["model.onnx"] == made()["model.onnx"]
    with pytest.raises(Unprocessable, match="not the recorded"):
        make(again, cohorts.rows(seed=2))


def test_too_few_rows_are_refused_with_what_was_left_out() -> None:
    data = replace(cohorts.rows(60), left_out={"sbp is missing": 900})
    with pytest.raises(Unprocessable, match="900 rows: sbp is missing"):
        make(cohorts.spec(), data)


def test_nobody_is_trained_on_and_tested_with() -> None:
    data = cohorts.rows(90)
    twice = data.part("train")[0]
    kept, left = apart([*data.lines, twice._replace(part="test", at="2022-01-01T00:00:00Z")])
    assert left == 1 and DataSet(data.features, tuple(kept)).sha256 == data.sha256


def test_a_baseline_is_compared_on_the_same_rows() -> None:
    gate = '[gate.baseline]\nmodel = "other"\noutput = "risk"\nmargin = 0.02'
    data = cohorts.rows()
    poor = [line._replace(rival=float(i % 7)) for i, line in enumerate(data.lines)]
    files = make(cohorts.spec(gate=gate), replace(data, lines=tuple(poor)))
    told = json.loads(files["report.json"])["baseline"]
    assert told["rows"] == len(data.part("test")) and told["low"] <= told["difference"]
    assert told["not_inferior"] is True and told["rival_auroc"] < 0.6
    silent = json.loads(make(cohorts.spec(gate=gate), data)["report.json"])
    assert silent["baseline"]["not_inferior"] is False and not silent["gate"]["passed"]


def test_measures_of_known_cases() -> None:
    happened = np.array([0, 0, 1, 1], float)
    assert auroc(happened, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auroc(happened, np.full(4, 0.5)) == 0.5
    draw = np.random.default_rng(5)
    probability = draw.uniform(0.02, 0.9, 20_000)
    real = (draw.uniform(size=20_000) < probability).astype(float)
    slope, intercept = calibration(real, probability)
    assert slope == pytest.approx(1, abs=0.05) and intercept == pytest.approx(0, abs=0.05)
    odds = probability / (1 - probability) * np.e
    assert calibration(real, odds / (1 + odds))[1] == pytest.approx(-1, abs=0.05)


def test_intervals_keep_the_rows_of_a_patient_together() -> None:
    draw = np.random.default_rng(5)
    score = np.repeat(draw.uniform(size=80), 10)
    happened = np.repeat((draw.uniform(size=80) < 0.4).astype(float), 10)
    who = [str(i // 10) for i in range(800)]
    wide = judge(Judged.of(list(happened > 0), list(score), who), 200, 1)["auroc"]
    rows = [str(i) for i in range(800)]
    narrow = judge(Judged.of(list(happened > 0), list(score), rows), 200, 1)["auroc"]
    assert wide["value"] == narrow["value"]
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_a_model_is_not_inferior_to_itself_and_inferior_to_the_truth() -> None:
    draw = np.random.default_rng(2)
    truth = draw.uniform(size=400)
    judged = Judged.of(
        list(draw.uniform(size=400) < truth),
        list(draw.uniform(size=400)),
        [str(i) for i in range(400)],
    )
    assert compare(judged, judged.probability, 0.01, 100, 1)["difference"] == 0
    assert compare(judged, truth, 0.01, 100, 1)["not_inferior"] is False


def test_what_is_written_is_read_again() -> None:
    data = {
        "text": 'a "quoted"\nline \\ \x7f é',
        "yes": True,
        "number": Decimal("1.50"),
        "real": 1e-9,
        "pairs": [["s", "c"]],
        "table": {"low": 1, "deep": {"in line": [1, 2]}},
        "concept": {"one-two": {"title": "t"}, "odd key": {"title": "u"}},
        "rows": [{"name": "x", "choices": {"male": 0}}, {"name": "y", "none": {}}],
    }
    assert tomllib.loads(toml(data), parse_float=Decimal) == data | {"real": Decimal("1e-9")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('rule = "encounters"', 'rule = "dates"'), "dates"),
        (('at = "2020-01-01"', 'at = "2025-01-01"'), "nothing is left to test"),
        (('at = "2020-01-01"', 'at = "2020-02-31"'), "day is out of range"),
        (('kind = "logistic"', 'kind = "magic"'), "pipeline.kind"),
        (("seed = 7", "seed = -1"), "seed"),
        (("seed = 7", "seed = 7\nsead = 7"), "sead"),
        (('name = "demo-risk"', "name ="), "Invalid value"),
        (('concept = "demo-infarction"', 'concept = "nothing"'), "unknown concept: nothing"),
        (('kind = "age"', 'kind = "shoe"'), "features.toml"),
    ],
)
def test_a_specification_that_cannot_be_followed(change: tuple[str, str], said: str) -> None:
    from operations.models.training.packaging import unfinished

    text = cohorts.spec().replace(*change)
    assert text != cohorts.spec()
    with pytest.raises(Unprocessable, match=said):
        unfinished(read_spec(text))
