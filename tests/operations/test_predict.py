"""The contract of ``$predict``: what it answers, refuses and explains."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from typing import Any

import pytest
from predicting import (
    READ_TYPES,
    Chart,
    Road,
    World,
    complete,
    diagnostics,
    feature_of,
    models_of,
    of_type,
    parameters,
    predict,
    refusal,
)

from fhir_server.formats.json import dumps, loads
from fhir_server.model.problem import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    Unavailable,
)
from operations.models.registry import SHIPPED, Registry, Version

pytestmark = pytest.mark.usefixtures("each_store")


def test_the_result_is_a_labelled_draft_with_its_sources() -> None:
    chart = complete()
    chart.resources[1]["meta"] = {
        "security": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"},
            {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"},
        ]
    }
    chart.resources[2]["meta"] = {
        "security": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}
        ]
    }
    bundle = predict(chart.resources, parameters(model="score2"))
    assert bundle["type"] == "collection"
    (risk,) = of_type(bundle, "RiskAssessment")
    assert risk["status"] == "preliminary"
    assert [label["code"] for label in risk["meta"]["security"]] == ["AIAST", "R", "HIV"]
    assert risk["subject"] == {"reference": "Patient/p"}
    assert risk["occurrenceDateTime"] == "2026-06-01T12:00:00.000Z"
    assert risk["performer"]["reference"] == "Device/score2-1.0.0"
    references = {basis["reference"] for basis in risk["basis"]}
    assert references == {"Patient/p/_history/1"} | {
        f"Observation/{r['id']}/_history/1" for r in chart.resources[1:5]
    }
    (prediction,) = risk["prediction"]
    assert prediction["qualitativeRisk"]["text"] == "low-to-moderate"
    assert (prediction["whenRange"]["low"]["value"], prediction["whenRange"]["high"]["value"]) == (
        50,
        60,
    )
    (provenance,) = of_type(bundle, "Provenance")
    full_urls = {e["resource"]["resourceType"]: e["fullUrl"] for e in bundle["entry"]}
    assert provenance["target"] == [{"reference": full_urls["RiskAssessment"]}]
    assert {e["what"]["reference"] for e in provenance["entity"]} == references
    assert full_urls["Device"].endswith("/fhir/Device/score2-1.0.0")


def test_each_feature_is_explained() -> None:
    bundle = predict(complete().resources, parameters(model="prevent"))
    row = feature_of(bundle, "total-cholesterol")
    assert row["original"]["valueQuantity"]["value"] == Decimal("5.5")
    assert row["value"]["valueQuantity"]["value"] == Decimal("212.6836814")
    assert "0.02586" in row["conversion"]["valueString"]
    assert row["date"]["valueString"] == "2026-05-01"
    assert feature_of(bundle, "diabetes")["origin"]["valueCode"] == "assumed"
    assert "Diabetes mellitus: no Condition of this kind is in the visible record" in diagnostics(
        bundle
    )


def test_without_model_every_applicable_champion_answers() -> None:
    chart = Chart()
    chart.measure("2160-0", 0.9, "mg/dL")
    bundle = predict(chart.resources)
    assert len(of_type(bundle, "Observation")) == 1 and not of_type(bundle, "RiskAssessment")
    text = diagnostics(bundle)
    assert "score2: sbp" in text and "prevent: bmi" in text
    assert "charlson: the visible record shows none of its findings" in text
    assert "cha2ds2-vasc: CHA2DS2-VASc is for people with atrial fibrillation" in text
    chart = complete()
    chart.condition("49436004")  # atrial fibrillation
    bundle = predict(chart.resources)
    assert models_of(bundle, "RiskAssessment") == [
        "framingham",
        "framingham-bmi",
        "prevent",
        "score2",
    ]
    assert models_of(bundle, "Observation") == ["cha2ds2-vasc", "has-bled"]


def test_outside_its_indication_a_model_answers_only_by_name() -> None:
    chart = Chart(age=76, sex="female")
    chart.condition("38341003")
    bundle = predict(chart.resources, parameters(model="cha2ds2-vasc"))
    (score,) = of_type(bundle, "Observation")
    assert score["valueQuantity"]["value"] == 4  # age, sex, hypertension
    assert "the visible record shows none" in score["note"][1]["text"]
    override = {"atrial-fibrillation": ("valueBoolean", True)}
    bundle = predict(chart.resources, parameters(override=override))
    assert "cha2ds2-vasc" in models_of(bundle, "Observation")


def test_one_model_without_result_names_each_missing_feature() -> None:
    text = refusal(Chart(country=None))
    for expected in (
        "sbp (Systolic blood pressure): the record has none since 2021-06-01; codes http://loinc.org|8480-6",
        "unit mm[Hg]; look-back P5Y",
        "smoker (Current smoker)",
        "http://loinc.org|2093-3",
        "http://loinc.org|2085-9",
        "region (SCORE2 risk region of the country of residence): the Patient has no",
    ):
        assert expected in text


def test_a_model_that_cannot_run_is_503_alone_and_a_warning_beside_others(
    full_world: World,
) -> None:
    broken = Registry.of(Road.runtime, [SHIPPED])
    version = broken.versions["score2-1.0.0"]
    other = dataclasses.replace(version.package, files={"model.onnx": "0" * 64})
    broken.versions["score2-1.0.0"] = Version(other)
    with pytest.raises(Unavailable, match=r"score2-1\.0\.0"):
        predict([], parameters(model="score2"), world=full_world, models=broken)
    bundle = predict([], parameters(model=["score2", "prevent"]), world=full_world, models=broken)
    (risk,) = of_type(bundle, "RiskAssessment")
    assert risk["method"]["coding"][0]["code"] == "prevent"
    assert "Model score2-1.0.0: the graph failed" in diagnostics(bundle)


def test_unknown_model_patient_and_parameters() -> None:
    chart = complete()
    with pytest.raises(NotFound, match=r"Unknown model 'score3'; known: .*ckd-epi-2021"):
        predict(chart.resources, query="model=score3")
    with pytest.raises(NotFound):
        predict([], query="model=score2")
    with pytest.raises(BadRequest, match="Unknown parameter 'modell'"):
        predict(chart.resources, query="modell=score2")
    with pytest.raises(BadRequest, match="use POST"):
        predict(chart.resources, query="override=x")
    with pytest.raises(BadRequest, match="report or request"):
        predict(chart.resources, query="missing=guess")
    with pytest.raises(BadRequest, match="1 time"):
        predict(chart.resources, query="asOf=2026-01-01T00:00:00Z&asOf=2026-01-02T00:00:00Z")


def test_get_never_writes() -> None:
    with pytest.raises(MethodNotAllowed):
        predict(complete().resources, query="model=score2&store=true")


def test_contributions_sum_up_to_the_risk() -> None:
    (risk,) = of_type(predict(complete().resources, parameters(model="score2")), "RiskAssessment")
    (told,) = [e for e in risk["extension"] if e["url"].endswith("model-contribution")]
    parts = {part["url"]: part for part in told["extension"] if part["url"] != "contribution"}
    assert parts["method"]["valueCode"] == "linear" and parts["scale"]["valueCode"] == "cloglog"
    added = [
        inner["valueDecimal"]
        for part in told["extension"]
        if part["url"] == "contribution"
        for inner in part["extension"]
        if inner["url"] == "value"
    ]
    total = parts["total"]["valueDecimal"]
    assert abs(parts["base"]["valueDecimal"] + sum(added) - total) < Decimal("1e-7")
    exact = math.log(-math.log1p(-float(risk["prediction"][0]["probabilityDecimal"])))
    assert abs(exact - float(total)) < 1e-4


def test_one_search_per_type_and_rare_values_behind_many() -> None:
    chart = complete()
    world = World(chart.resources)
    predict([], parameters(model=["score2", "prevent"]), world=world)
    assert world.searched == list(READ_TYPES)
    for month in range(3, 6):
        for day in range(1, 29):
            chart.pressure(140, f"2026-{month:02}-{day:02}T10:00:00Z")
            chart.pressure(140, f"2026-{month:02}-{day:02}T20:00:00Z")
    chart.pressure(140, "2026-05-31")
    world = World(chart.resources)
    bundle = predict([], parameters(model="score2"), world=world)
    assert feature_of(bundle, "sbp")["date"]["valueString"] == "2026-05-31"
    assert world.searched == ["Observation", "Observation", "Condition"]


def test_all_models_read_a_small_record_by_one_search_and_a_large_one_alike() -> None:
    chart = complete(age=60)
    chart.resources[1]["effectiveDateTime"] = "2024-05-01"  # the pressure, behind the others
    world = World(chart.resources)
    small = predict([], world=world)
    assert world.searched == list(READ_TYPES)
    for number in range(300):
        chart.measure(
            "8302-2", 170 + number / 100, "cm", f"2025-{1 + number // 28:02}-{1 + number % 28:02}"
        )
    chart.resources[1]["component"][0]["valueQuantity"]["value"] = Decimal(150)
    large = predict([], world=World(chart.resources))
    assert models_of(large, "RiskAssessment") == models_of(small, "RiskAssessment")
    assert len(models_of(large, "RiskAssessment")) == 4
    assert _probabilities(large) != _probabilities(small)


def _probabilities(bundle: dict[str, Any]) -> list[Decimal]:
    risks = of_type(bundle, "RiskAssessment")
    return [p["probabilityDecimal"] for risk in risks for p in risk["prediction"]]


def test_who_is_outside_gets_one_reason_per_model_when_none_is_named() -> None:
    text = diagnostics(predict(Chart(age=10).resources))
    assert "framingham: age (Age in completed years): 10 a is outside the population" in text
    assert "framingham: sbp" not in text


def test_results_are_valid_resources() -> None:
    chart = complete()
    chart.measure("2160-0", 0.9, "mg/dL")
    bundle = predict(chart.resources)
    kinds = {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert kinds == {"Observation", "RiskAssessment", "Device", "Provenance", "OperationOutcome"}
    World.check(loads(dumps(bundle)))
    tasks = predict(Chart().resources, parameters(model="score2", missing="request"))
    World.check(loads(dumps(tasks)))
