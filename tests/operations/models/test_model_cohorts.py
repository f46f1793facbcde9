"""Rows that stand for others, times to an event, and the models of public cohorts."""

from __future__ import annotations

import asyncio
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import cohorts
import numpy as np
import pytest

from fhir_server.model.problem import Unprocessable
from operations.models.intake.graph import judge as judge_graph
from operations.models.package import load, of_parts
from operations.models.registry import SHIPPED
from operations.models.training.dataset import DataSet, Followed
from operations.models.training.evaluation import Judged, auroc, brier, calibration, judge
from operations.models.training.fitting import run
from operations.models.training.making import make
from operations.models.training.spec import read_spec
from operations.models.training.survival import (
    ProportionalHazards,
    compared_by_times,
    concordance,
    horizon,
    weights,
)
from operations.models.training.work import Training

ROOT = Path(__file__).resolve().parents[3]
COX = '[cohort]\ntable = "made"\nevent = "any"\nsplit = "by hand"\n'
"""In place of moments of the record."""


def test_who_stayed_stands_for_who_left() -> None:
    """By hand: of four who were there at 2 one left, of two at 4 one; an event of that day came
    first."""
    days = np.array([1, 2, 2, 4, 9], float)
    left = np.array([0, 1, 0, 1, 0], float)
    assert weights(days, left) == pytest.approx([1, 0, 1, 0, 3], abs=1e-12)
    many = np.random.default_rng(1)
    end, gone = many.exponential(6, 4000), many.exponential(9, 4000)
    seen = np.minimum(np.minimum(end, gone), 5)
    weight = weights(seen, (gone < np.minimum(end, 5)).astype(float))
    risk = np.average((end <= 5).astype(float), weights=weight)
    assert weight.sum() == pytest.approx(4000, rel=0.001)
    assert risk == pytest.approx(1 - np.exp(-5 / 6), abs=0.02)


def test_hazards_and_concordance_are_those_of_another_program() -> None:
    """Expected: lifelines 0.30.3, CoxPHFitter on times cut at 700 and concordance_index."""
    draw = np.random.default_rng(11)
    x = np.round(draw.normal(size=(60, 2)), 2)
    rate = np.exp(-0.8 * x[:, 0] + 0.4 * x[:, 1])
    time = np.round(draw.exponential(rate) * 900 + 1, 3)
    until = np.round(draw.uniform(100, 2500, 60), 3)
    event, days = (time <= until).astype(float), np.minimum(time, until)
    model = ProportionalHazards(700.0).fit(x, days, event)
    assert model.coef == pytest.approx([0.63569961, -0.26976858], abs=1e-5)
    found = model.predict_proba(np.array([[0.0, 0.0], [1.0, -1.0]]))[:, 1]
    assert found == pytest.approx([0.5628311, 0.8707908], abs=1e-5)
    assert concordance(days, event, x[:, 0]) == pytest.approx(0.6789655172413793, abs=1e-12)


def test_a_weight_counts_as_so_many_rows() -> None:
    draw = np.random.default_rng(4)
    said = np.round(draw.uniform(0.05, 0.6, 300), 2)
    real = (draw.uniform(size=300) < said).astype(float)
    weight = draw.integers(1, 4, 300).astype(float)
    many = np.repeat(np.arange(300), weight.astype(int))
    for measure in (auroc, brier):
        assert measure(real, said, weight) == pytest.approx(measure(real[many], said[many]))
    assert calibration(real, said, weight) == pytest.approx(calibration(real[many], said[many]))
    who = [str(i) for i in range(300)]
    told = judge(Judged.of(list(real > 0), list(said), who, list(weight)), 100, 1)
    assert sum(one["observed"] for one in told["tenths"]) == pytest.approx(weight @ real, abs=0.01)
    assert told["rate"] == pytest.approx(real[many].mean(), abs=1e-4)
    twentieth = next(row for row in told["decisions"] if row["threshold"] == 0.2)
    flagged = said[many] >= 0.2
    true, false = (flagged * real[many]).mean(), (flagged * (1 - real[many])).mean()
    assert twentieth["net_benefit"] == pytest.approx(true - false / 4, abs=1e-4)
    assert twentieth["sensitivity"] == pytest.approx(true / real[many].mean(), abs=1e-4)


def timed() -> DataSet:
    """The usual rows with times; a fifth of them are not followed for two years."""
    data, draw = cohorts.rows(330), np.random.default_rng(9)
    lines = []
    for line in data.lines:
        begun = draw.uniform(1, 730) if line.happened else draw.uniform(731, 1500)
        gone = draw.uniform(1, 730) if draw.uniform() < 0.2 else 2000.0
        event, known = line.happened and begun <= gone, min(begun, gone)
        weight = 1.2 if event or known >= 730 else 0.0
        followed = Followed(float(known), bool(event))
        rival = line.values[2] if line.part == "test" else None
        lines.append(
            line._replace(happened=bool(event), weight=weight, followed=followed, rival=rival)
        )
    return replace(data, lines=tuple(lines))


def cox(**changes: str) -> str:
    baseline = '[gate.baseline]\nmodel = "pressure"\noutput = "score"\nmargin = 0.05\n'
    text = cohorts.spec("cox", gate=baseline + 'measure = "concordance"\nlooks = 2')
    text = text.replace(
        'kind = "cox"', 'kind = "cox"\nabove = { sbp = [120, 140] }\nhinge = { age = 60 }'
    )
    start, end = text.index("[index]"), text.index("[outcome]")
    text = text[:start] + COX + text[end:]
    start, end = text.index("[split]"), text.index("[pipeline]")
    return text[:start] + text[end:].replace('observed_until = "2024-01-01"\n', "")


def test_a_model_of_times_is_a_graph_like_every_other() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    data = timed()
    files = make(cox(), data)
    turned = replace(data, lines=tuple(reversed(data.lines)))
    assert files == make(cox(), turned)
    judge_graph(files["model.onnx"])
    report, package = json.loads(files["report.json"]), of_parts(files, Path())
    assert report["parity"]["greatest_difference"] < 1e-12
    assert {"age", "age beyond 60.0", "sbp above 120.0, 140.0"} <= report["weights"].keys()
    assert report["rows"]["test"]["left_early"] > 5
    assert report["test"]["rows"] < report["baseline"]["rows"] == len(data.part("test"))
    assert report["test"]["concordance"]["low"] < report["test"]["concordance"]["value"]
    assert report["split"] == "by hand" and report["baseline"]["looks"] == 2
    assert package.features.output[0].attribution.scale == "cloglog"  # type: ignore[union-attr]
    assert data.sha256 != cohorts.rows(330).sha256
    with pytest.raises(Unprocessable, match="rows with times"):
        make(cox(), cohorts.rows(330))


def test_more_looks_make_a_wider_interval() -> None:
    lines = [line for line in timed().lines if line.part == "test"]
    score = np.array([line.values[0] for line in lines])
    once = compared_by_times(lines, score, 0.05, 400, 1, 1)
    twice = compared_by_times(lines, score, 0.05, 400, 1, 2)
    assert twice["difference"] == once["difference"]
    assert twice["low"] < once["low"] and twice["high"] > once["high"]


def test_a_specification_names_columns_of_features_only() -> None:
    with pytest.raises(Unprocessable, match="no such feature: sap"):
        read_spec(cox().replace("sbp = [120", "sap = [120"))
    with pytest.raises(Unprocessable, match="index"):
        read_spec(cox().replace(COX, ""))
    assert horizon("P5Y") == 1826.25


def test_a_specification_of_a_cohort_is_not_followed_on_the_record() -> None:
    training = Training(None, None, None, None)  # type: ignore[arg-type]
    with pytest.raises(Unprocessable, match="of the cohort made, not of the record"):
        asyncio.run(training.files(cox(), None))  # type: ignore[arg-type]


RISES = {
    "atrial_fibrillation_5y": ("age", "weight", "smoker", "heart-failure"),
    "breast_cancer_recurrence_5y": ("tumour-size", "grade", "positive-nodes"),
    "diabetes_5y": ("bmi", "fatty-liver", "hypertension"),
    "heart_failure_5y": ("age", "bmi", "diabetes", "hypertension", "atrial-fibrillation"),
    "stroke_5y": ("age", "hypertension", "diabetes"),
}
FALLS = {
    "breast_cancer_recurrence_5y": ("hormone-therapy", "progesterone-receptor"),
    "diabetes_5y": ("hdl-cholesterol",),
}
RANGES = {
    "age": np.arange(18.0, 99.0),
    "bmi": np.arange(16.0, 60.0),
    "weight": np.arange(40.0, 180.0, 5),
    "hdl-cholesterol": np.arange(20.0, 110.0, 5),
    "tumour-size": np.arange(0.0, 120.0, 5),
    "grade": np.array([1.0, 2, 3]),
    "positive-nodes": np.arange(0.0, 40.0),
}


@pytest.mark.parametrize("name", RISES)
def test_risk_goes_the_way_that_medicine_expects(name: str) -> None:
    """Of each feature alone, for everybody of the golden vectors."""
    package = load(SHIPPED / name)
    names = [feature.name for feature in package.features.feature]
    output = package.features.output[0].name
    graph = (SHIPPED / name / "model.onnx").read_bytes()
    people = [
        [package.encode(f, vector.inputs[f.name]) for f in package.features.feature]
        for vector in package.golden
    ]
    for sign, moved in ((1, RISES[name]), (-1, FALLS.get(name, ()))):
        for feature in moved:
            levels = RANGES.get(feature, np.array([0.0, 1.0]))
            rows = np.array([person for person in people for _ in levels])
            rows[:, names.index(feature)] = np.tile(levels, len(people))
            risk = run(graph, names, output, rows).reshape(len(people), -1)
            steps = sign * np.diff(risk, axis=1)
            assert (steps >= 0).all() and steps.max() > 0, feature
            assert ((risk > 0) & (risk < 1)).all()


@pytest.mark.parametrize("name", RISES)
def test_the_card_says_what_the_cohort_cannot(name: str) -> None:
    card = load(SHIPPED / name).card
    spec = tomllib.loads((SHIPPED / name / "train.toml").read_text(encoding="utf-8"))
    assert card.intended_use.startswith("Research") and len(card.limits) >= 5
    assert spec["cohort"]["split"] in card.training_data and "Not blind" in card.training_data
    names = {metric.name for metric in card.metric}
    assert {"ece", "slope", "intercept", "gate"} <= names
    assert sum(one.startswith("auroc, age") for one in names) >= 2


def row(name: str) -> str:
    """Of the table in the guide."""
    report = json.loads((SHIPPED / name / "report.json").read_text(encoding="utf-8"))
    train, test, rival = report["rows"]["train"], report["test"], report["baseline"]
    measure = "concordance" if "concordance" in rival else "auroc"
    one, verdict = test["auroc"], "not inferior" if rival["not_inferior"] else "not shown"
    cells = [
        f"`{name.replace('_', '-')}`",
        f"{train['rows']:,} / {train['events']:,}",
        f"{test['rows']:,} / {test['events']:,}",
        f"{one['value']} ({one['low']} to {one['high']})",
        f"{test['slope']['value']}, {test['intercept']['value']}",
        str(test["ece"]),
        f"{rival[measure]} to {rival['rival_' + measure]} of {rival['rows']:,}",
        f"{rival['difference']} ({rival['low']} to {rival['high']}), margin {rival['margin']}: "
        + verdict,
    ]
    return "| " + " | ".join(cells) + " |"


def test_the_guide_tells_what_the_reports_tell() -> None:
    page = (ROOT / "ig" / "pagecontent" / "cohorts.md").read_text(encoding="utf-8")
    for name in RISES:
        assert row(name) in page, row(name)
