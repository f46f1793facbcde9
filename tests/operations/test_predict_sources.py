"""What ``$predict`` takes from elsewhere than a value's own code, and what it says of doubt."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from predicting import (
    LOINC,
    SNOMED,
    Chart,
    complete,
    feature_of,
    of_type,
    parameters,
    predict,
    refusal,
    risk_of,
)

pytestmark = pytest.mark.usefixtures("each_store")

TERMS = "http://terminology.hl7.org/CodeSystem"
AF, HEAVY, SOCIAL, NONE = "49436004", "86933000", "28127009", "105542008"


def _without(chart: Chart, code: str) -> Chart:
    """With another code in its place."""
    for resource in chart.resources[1:]:
        for coding in resource["code"]["coding"]:
            coding["code"] = coding["code"].replace(code, "8310-5")
    return chart


@pytest.mark.parametrize(
    ("weight", "height"),
    [((73.5, "kg"), (175, "cm")), ((162.0398, "[lb_av]"), (68.8976378, "[in_i]"))],
    ids=["metric", "imperial"],
)
def test_a_body_mass_index_follows_from_weight_and_height(
    weight: tuple[float, str], height: tuple[float, str]
) -> None:
    plain = risk_of(predict(complete().resources, parameters(model="prevent")))
    chart = _without(complete(), "39156-5")
    assert "cannot be computed: weight" in refusal(chart, model="prevent")
    chart.measure("29463-7", *weight)
    chart.measure("8302-2", *height, when="2018-03-01")
    bundle = predict(chart.resources, parameters(model="prevent"))
    assert abs(risk_of(bundle) - plain) < 2e-6
    told = feature_of(bundle, "bmi")
    assert told["origin"]["valueCode"] == "computed"
    assert abs(told["value"]["valueQuantity"]["value"] - 24) < Decimal("0.001")
    basis = {one["reference"] for one in of_type(bundle, "RiskAssessment")[0]["basis"]}
    assert {f"Observation/{r['id']}/_history/1" for r in chart.resources[-2:]} <= basis
    chart.measure("39156-5", 24, "kg/m2")
    again = predict(chart.resources, parameters(model="prevent"))
    assert feature_of(again, "bmi")["origin"]["valueCode"] == "record"
    assert risk_of(again) == plain


def test_a_height_in_the_wrong_unit_gives_no_body_mass_index() -> None:
    chart = _without(complete(), "39156-5")
    chart.measure("29463-7", 73.5, "kg")
    chart.measure("8302-2", 175, "m")
    assert "height 175 m is not plausible (1 to 2.5)" in refusal(chart, model="prevent")


def test_values_of_one_time_that_differ_are_told() -> None:
    chart = complete()
    first = chart.measure("2093-3", 9, "mmol/L", "2026-05-20")
    second = chart.measure("2093-3", 4, "mmol/L", "2026-05-20")
    first["issued"], second["issued"] = "2026-05-21T10:00:00Z", "2026-05-20T10:00:00Z"
    bundle = predict(chart.resources, parameters(model="score2"))
    assert feature_of(bundle, "total-cholesterol")["value"]["valueQuantity"]["value"] == 9
    (risk,) = of_type(bundle, "RiskAssessment")
    told = f"Observation/{second['id']}/_history/1 of the same time is 4 mmol/L"
    assert any(told in note["text"] for note in risk["note"])
    second["valueQuantity"]["value"] = Decimal("9.0")
    same = predict(chart.resources, parameters(model="score2"))
    assert "of the same time" not in str(of_type(same, "RiskAssessment"))


def _bleeding(*answers: tuple[str, str], **condition: Any) -> tuple[Decimal, dict[str, Any]]:
    chart = Chart(age=60)
    chart.pressure(130)
    chart.condition(AF)
    for code, when in answers:
        coded = {"coding": [{"system": SNOMED, "code": code}]}
        chart.add(
            "Observation",
            status="final",
            code={"coding": [{"system": LOINC, "code": "11331-6"}]},
            effectiveDateTime=when,
            valueCodeableConcept=coded,
        )
    if condition:
        chart.condition("7200002", **condition)
    bundle = predict(chart.resources, parameters(model="has-bled"))
    (score,) = of_type(bundle, "Observation")
    return score["valueQuantity"]["value"], score


def test_alcohol_counts_by_a_diagnosis_or_by_what_a_history_says() -> None:
    score, told = _bleeding((HEAVY, "2026-05-01"))
    assert score == 1
    assert {"reference": "Observation/observation-3/_history/1"} in told["derivedFrom"]
    for answers in (
        [(SOCIAL, "2026-05-01")],
        [(NONE, "2026-05-01")],
        [(HEAVY, "2026-01-01"), (NONE, "2026-05-01")],  # not any more
        [(HEAVY, "2025-05-01")],  # before the look-back
        [(HEAVY, "2026-07-01")],  # after asOf
    ):
        assert _bleeding(*answers)[0] == 0
    active = {"coding": [{"system": f"{TERMS}/condition-clinical", "code": "active"}]}
    assert _bleeding((NONE, "2026-05-01"), clinicalStatus=active)[0] == 1


@pytest.mark.parametrize(
    ("ast", "platelets"),
    [
        ((40, "U/L"), (200, "10*9/L")),
        ((40, "[IU]/L"), (200, "10*3/uL")),
        ((40, "IU/L"), (200, "K/uL")),
        ((40, "u/l"), (200, "x10E9/L")),
        ((Decimal("0.04"), "U/mL"), (200_000, "/uL")),
    ],
    ids=lambda given: given[1],
)
def test_units_that_laboratories_write(
    ast: tuple[Decimal, str], platelets: tuple[int, str]
) -> None:
    chart = Chart(age=50)
    for code, (value, unit) in (("1920-8", ast), ("777-3", platelets), ("1742-6", (35, "U/L"))):
        written = chart.measure(code, str(value), unit)["valueQuantity"]
        if "[" not in unit and "*" not in unit:  # as text, without a UCUM code
            del written["system"], written["code"]
    (index,) = of_type(predict(chart.resources, parameters(model="fib-4")), "Observation")
    assert index["valueQuantity"]["value"] == Decimal("1.69")
