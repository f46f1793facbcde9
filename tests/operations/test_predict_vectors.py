"""The published vectors through the whole road: FHIR in, FHIR out, in both unit systems."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from predicting import SNOMED, Chart, of_type, parameters, predict

from operations.models.registry import SHIPPED

pytestmark = pytest.mark.usefixtures("each_store")

COUNTRIES = {"low": "France", "moderate": "DE", "high": "POL", "very-high": "Україна"}
CHOLESTEROL, CREATININE = Decimal("0.02586"), Decimal("88.4")


def _vectors(model: str) -> list[dict[str, Any]]:
    path: Path = SHIPPED / model / "golden.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _cholesterol(chart: Chart, code: str, value: Any, given: str, wanted: str) -> None:
    number = Decimal(str(value))
    if given != wanted:
        number = number / CHOLESTEROL if wanted == "mg/dL" else number * CHOLESTEROL
    chart.measure(code, number, wanted)


def _chart(vector: dict[str, Any], given: str, wanted: str) -> Chart:
    """A record that shows exactly the inputs of a vector."""
    inputs = vector["inputs"]
    chart = Chart(inputs["sex"], inputs["age"], COUNTRIES.get(inputs.get("region", "")))
    if "sbp" in inputs:
        chart.pressure(inputs["sbp"])
        chart.smoking("449868002" if inputs["smoker"] else "266919005")
        _cholesterol(chart, "2093-3", inputs["total-cholesterol"], given, wanted)
        _cholesterol(chart, "2085-9", inputs["hdl-cholesterol"], given, wanted)
    if "bmi" in inputs:
        chart.measure("39156-5", inputs["bmi"], "kg/m2")
        chart.measure("98979-8", inputs["egfr"], "mL/min/{1.73_m2}")
    if inputs.get("diabetes"):
        chart.condition("44054006")
    if inputs.get("bp-treated"):
        chart.drug("C09AA03")
    if inputs.get("statin"):
        chart.drug("C10AA05")
    return chart


def _probabilities(bundle: dict[str, Any]) -> dict[str, Decimal]:
    (risk,) = of_type(bundle, "RiskAssessment")
    return {
        prediction["outcome"]["coding"][0]["code"]: prediction["probabilityDecimal"]
        for prediction in risk["prediction"]
    }


@pytest.mark.parametrize("unit", ["mg/dL", "mmol/L"])
@pytest.mark.parametrize("model", ["score2", "prevent"])
def test_risk_vectors(model: str, unit: str) -> None:
    given = "mmol/L" if model == "score2" else "mg/dL"
    for vector in _vectors(model):
        chart = _chart(vector, given, unit)
        found = _probabilities(predict(chart.resources, parameters(model=model)))
        for name, expected in vector["expected"].items():
            assert abs(float(found[name]) - expected) <= vector["tolerance"], (vector, name)


@pytest.mark.parametrize("unit", ["mg/dL", "umol/L"])
def test_egfr_vectors(unit: str) -> None:
    for vector in _vectors("ckd_epi_2021"):
        inputs = vector["inputs"]
        chart = Chart(inputs["sex"], inputs["age"])
        value = Decimal(str(inputs["creatinine"])) * (CREATININE if unit == "umol/L" else 1)
        chart.measure("2160-0", value, unit)
        bundle = predict(chart.resources, parameters(model="ckd-epi-2021"))
        (found,) = of_type(bundle, "Observation")
        assert found["code"]["coding"][0]["code"] == "98979-8"
        exact = float(found["valueQuantity"]["value"])
        assert abs(exact - vector["expected"]["egfr"]) <= vector["tolerance"]
        (reported,) = found["valueQuantity"]["extension"]
        assert reported["valueInteger"] == round(vector["expected"]["egfr"])
        assert found["valueQuantity"]["code"] == "mL/min/{1.73_m2}"


def test_a_wrong_vector_is_seen() -> None:
    """The comparison can fail: a vector with its sex turned round does not fit."""
    vector = _vectors("score2")[0]
    vector["inputs"]["sex"] = "female"
    found = _probabilities(
        predict(_chart(vector, "mmol/L", "mmol/L").resources, parameters(model="score2"))
    )
    assert abs(float(found["cvd-10y"]) - vector["expected"]["cvd-10y"]) > vector["tolerance"]


def test_prevent_derives_egfr_from_creatinine_unrounded() -> None:
    """The eGFR of another model enters exactly, not as the reported whole number."""
    vector = _vectors("prevent")[0]
    chart = _chart(vector, "mg/dL", "mg/dL")
    chart.resources = [
        r
        for r in chart.resources
        if r.get("code", {}).get("coding", [{}])[0].get("code") != "98979-8"
    ]
    creatinine = chart.measure("2160-0", "0.78", "mg/dL")
    bundle = predict(chart.resources, parameters(model="prevent"))
    (risk,) = of_type(bundle, "RiskAssessment")
    rows = {
        e["extension"][0]["valueCode"]: {x["url"]: x for x in e["extension"]}
        for e in risk["extension"]
    }
    egfr = rows["egfr"]["value"]["valueQuantity"]["value"]
    exact = 142 * (0.78 / 0.7) ** -1.2 * 0.9938**50 * 1.012
    assert abs(float(egfr) - exact) < 1e-6
    assert rows["egfr"]["origin"]["valueCode"] == "derived"
    assert {"reference": f"Observation/{creatinine['id']}/_history/1"} in risk["basis"]
    assert {d["id"] for d in of_type(bundle, "Device")} == {"prevent-1.0.0", "ckd-epi-2021-1.0.0"}


def test_thirty_years_only_to_59() -> None:
    chart = _chart(_vectors("prevent")[1], "mg/dL", "mg/dL")
    names = set(_probabilities(predict(chart.resources, parameters(model="prevent"))))
    assert names == {"cvd-10y", "ascvd-10y", "hf-10y", "chd-10y", "stroke-10y"}


def test_smoking_and_diabetes_by_other_code_systems() -> None:
    chart = _chart(_vectors("prevent")[0], "mg/dL", "mg/dL")
    chart.resources = [r for r in chart.resources if r["resourceType"] != "Condition"]
    plain = _probabilities(predict(chart.resources, parameters(model="prevent")))
    chart.condition("E11.9", "http://hl7.org/fhir/sid/icd-10")
    icd = _probabilities(predict(chart.resources, parameters(model="prevent")))
    assert icd["cvd-10y"] > plain["cvd-10y"]
    assert abs(float(icd["cvd-10y"]) - 0.147) < 0.0006
    assert SNOMED
