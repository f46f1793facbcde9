"""The models of public cohorts, from stored resources to a risk; and whom they are not for."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from predicting import ATC, LOINC, SNOMED, Chart, of_type, parameters, predict

from fhir_server.model.problem import NotFound, Unprocessable
from operations.models.registry import SHIPPED

Json = dict[str, Any]
STOPPED = "atrial-fibrillation-5y|1.0.0"


def weight(model: str, column: str) -> float:
    """Of the fit, as its report tells it."""
    path = SHIPPED / model.partition("|")[0].replace("-", "_") / "report.json"
    return float(json.loads(path.read_bytes())["weights"][column])


def risk(chart: Chart, model: str) -> float:
    (found,) = of_type(predict(chart.resources, parameters(model=model)), "RiskAssessment")
    return float(found["prediction"][0]["probabilityDecimal"])


def told(chart: Chart, model: str) -> str:
    """Why there is no risk."""
    with pytest.raises(Unprocessable) as refused:
        predict(chart.resources, parameters(model=model))
    return str(refused.value)


def liver(age: int = 60, sex: str = "female") -> Chart:
    chart = Chart(sex, age)
    chart.condition("K76.0", "http://hl7.org/fhir/sid/icd-10", onsetDateTime="2020-01-01")
    chart.measure("39156-5", 31, "kg/m2")
    return chart


@pytest.mark.parametrize(
    ("model", "code", "system", "column"),
    [
        ("heart-failure-5y", "49436004", SNOMED, "atrial-fibrillation"),
        ("heart-failure-5y", "I25.1", "http://hl7.org/fhir/sid/icd-10", "coronary-disease"),
        ("stroke-5y", "44054006", SNOMED, "diabetes"),
        ("diabetes-5y", "38341003", SNOMED, "hypertension"),
        (STOPPED, "84114007", SNOMED, "heart-failure"),
    ],
)
def test_a_diagnosis_moves_the_odds_by_its_weight(
    model: str, code: str, system: str, column: str
) -> None:
    without = risk(liver(), model)
    with_ = liver()
    with_.condition(code, system, onsetDateTime="2021-01-01")
    moved = math.log(_odds(risk(with_, model)) / _odds(without))
    assert moved == pytest.approx(weight(model, column), rel=0.02)


def _odds(probability: float) -> float:
    return probability / (1 - probability)


def test_units_and_missing_values_of_the_diabetes_model() -> None:
    typical = liver()
    bundle = predict(typical.resources, parameters(model="diabetes-5y"))
    assert "HDL cholesterol" in json.dumps(bundle, default=str) and "taken as 50" in json.dumps(
        bundle, default=str
    )
    low = liver()
    low.measure("14646-4", "0.7758", "mmol/L")
    moved = math.log(_odds(risk(low, "diabetes-5y")) / _odds(risk(typical, "diabetes-5y")))
    assert moved == pytest.approx(-20 * weight("diabetes-5y", "hdl-cholesterol"), rel=0.02)


@pytest.mark.parametrize("model", ["heart-failure-5y", "stroke-5y", "diabetes-5y", STOPPED])
def test_whoever_has_it_already_or_is_too_young_gets_no_risk(model: str) -> None:
    codes = {"heart": "84114007", "strok": "230690007", "diabe": "44054006", "atria": "49436004"}
    had = liver()
    had.condition(codes[model[:5]], onsetDateTime="2019-01-01")
    assert "so far" in told(had, model)
    assert "population" in told(liver(age=16), model)
    absurd = liver()
    absurd.resources.pop()
    absurd.measure("39156-5", 400, "kg/m2")
    absurd.measure("29463-7", 900, "kg")
    assert "plausible" in told(absurd, model)


def test_a_model_short_of_its_gate_answers_only_by_its_version() -> None:
    chart = liver()
    with pytest.raises(NotFound, match=r"not passed its gate \(baseline\): ask for .*\|1\.0\.0"):
        predict(chart.resources, parameters(model="atrial-fibrillation-5y"))
    bundle = predict(chart.resources, parameters(model=STOPPED))
    assert "has not passed its gate: baseline" in json.dumps(bundle, default=str)
    everything = predict(chart.resources)
    codes = {r["method"]["coding"][0]["code"] for r in of_type(everything, "RiskAssessment")}
    assert {"heart-failure-5y", "stroke-5y", "diabetes-5y"} <= codes
    assert "atrial-fibrillation-5y" not in codes


def breast(**changes: Any) -> Chart:
    """A tumour of 25 mm and grade 2, two positive nodes, both receptors positive."""
    chart = Chart(changes.get("sex", "female"), 55)
    chart.condition("254837009", onsetDateTime="2026-04-01")
    chart.measure("33728-7", changes.get("size", "2.5"), "cm")
    chart.measure("21893-3", changes.get("nodes", 2), "{#}")
    for code, value, system in (
        ("44648-4", changes.get("grade", "1663004"), SNOMED),
        ("85337-4", "LA6576-8", LOINC),
        ("85339-0", changes.get("progesterone", "10828004"), SNOMED),
    ):
        chart.add(
            "Observation",
            status="final",
            code={"coding": [{"system": LOINC, "code": code}]},
            effectiveDateTime="2026-05-01",
            valueCodeableConcept={"coding": [{"system": system, "code": value}]},
        )
    if changes.get("treated"):
        chart.drug("L02BA01", ATC, authoredOn="2026-05-02")
    return chart


BREAST = "breast-cancer-recurrence-5y"


@pytest.mark.parametrize(
    ("changes", "column", "times"),
    [
        ({"size": "6.0"}, "tumour-size above 20.0, 50.0", 1.0),
        ({"size": "1.9"}, "tumour-size above 20.0, 50.0", -1.0),
        ({"grade": "61026006"}, "grade", 1.0),
        ({"nodes": 8}, "log(1 + positive-nodes)", math.log(9 / 3)),
        ({"progesterone": "260385009"}, "progesterone-receptor", -1.0),
        ({"treated": True}, "hormone-therapy", 1.0),
    ],
)
def test_hazards_of_breast_cancer_are_those_of_the_fit(
    changes: Json, column: str, times: float
) -> None:
    usual, other = risk(breast(), BREAST), risk(breast(**changes), BREAST)
    ratio = math.log(math.log1p(-other) / math.log1p(-usual))
    assert ratio == pytest.approx(times * weight(BREAST, column), rel=0.02)


def test_breast_cancer_of_men_and_with_metastases_is_refused() -> None:
    assert "female" in told(breast(sex="male"), BREAST)
    spread = breast()
    spread.condition("C79.5", "http://hl7.org/fhir/sid/icd-10", onsetDateTime="2026-04-02")
    assert "without recurrence" in told(spread, BREAST)
    unknown = breast()
    unknown.resources = [
        r for r in unknown.resources if "44648-4" not in json.dumps(r, default=str)
    ]
    assert "grade" in told(unknown, BREAST)


@pytest.mark.parametrize(("year", "told_of"), [("2024", False), ("2025", True)])
def test_that_the_data_of_a_model_are_old_is_told_with_its_answer(year: str, told_of: bool) -> None:
    """Of 1997 to 2014; from ten years on nothing is called of today."""
    at = f"{year}-06-01T12:00:00Z"
    chart = liver()
    chart.measure("39156-5", 31, "kg/m2", f"{year}-05-01")
    bundle = predict(chart.resources, parameters(model="stroke-5y", asOf=at))
    (found,) = of_type(bundle, "RiskAssessment")
    issues = [one["issue"] for one in of_type(bundle, "OperationOutcome")]
    text = "made from data of 1997 to 2014"
    assert (text in json.dumps(issues)) is (text in json.dumps(found["note"])) is told_of
