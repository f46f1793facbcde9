"""The contract of ``$predict``: what it reads, refuses, explains and never does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicting import NOW, SNOMED, Chart, Road, World, indexes, of_type, parameters, predict

from fhir_server.access.drafts import Draft
from fhir_server.formats.json import dumps, loads
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.problem import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unavailable,
    Unprocessable,
)
from fhir_server.model.resource import Key
from operations.models.publishing import publish
from operations.models.registry import SHIPPED, Registry, Version
from operations.parameters import decode
from operations.predict import predict_operation
from operations.registry import Invocation

pytestmark = pytest.mark.usefixtures("each_store")


def _complete(**who: Any) -> Chart:
    """Everything that SCORE2 and PREVENT need."""
    chart = Chart(**who)
    chart.pressure(140)
    chart.smoking("266919005")
    chart.measure("2093-3", 5.5, "mmol/L")
    chart.measure("2085-9", 1.3, "mmol/L")
    chart.measure("39156-5", 24, "kg/m2")
    chart.measure("62238-1", 88, "mL/min/{1.73_m2}")
    return chart


def _risk(bundle: dict[str, Any]) -> float:
    return float(of_type(bundle, "RiskAssessment")[0]["prediction"][0]["probabilityDecimal"])


def _feature(bundle: dict[str, Any], name: str) -> dict[str, Any]:
    (risk,) = of_type(bundle, "RiskAssessment")
    for extension in risk["extension"]:
        parts = extension["extension"]
        if parts[0]["valueCode"] == name:
            return {part["url"]: part for part in parts}
    raise AssertionError(name)


def _diagnostics(bundle: dict[str, Any]) -> str:
    (outcome,) = of_type(bundle, "OperationOutcome")
    return "\n".join(issue["diagnostics"] for issue in outcome["issue"])


def _refusal(chart: Chart, **values: Any) -> str:
    with pytest.raises(Unprocessable) as caught:
        predict(chart.resources, parameters(**({"model": "score2"} | values)))
    return "\n".join(issue.diagnostics for issue in caught.value.issues)


def test_the_result_is_a_labelled_draft_with_its_sources() -> None:
    chart = _complete()
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
    bundle = predict(_complete().resources, parameters(model="prevent"))
    row = _feature(bundle, "total-cholesterol")
    assert row["original"]["valueQuantity"]["value"] == Decimal("5.5")
    assert row["value"]["valueQuantity"]["value"] == Decimal("212.6836814")
    assert "0.02586" in row["conversion"]["valueString"]
    assert row["date"]["valueString"] == "2026-05-01"
    assert _feature(bundle, "diabetes")["origin"]["valueCode"] == "assumed"
    assert "Diabetes mellitus: no Condition of this kind is in the visible record" in _diagnostics(
        bundle
    )


def test_without_model_every_applicable_champion_answers() -> None:
    chart = Chart()
    chart.measure("2160-0", 0.9, "mg/dL")
    bundle = predict(chart.resources)
    assert len(of_type(bundle, "Observation")) == 1 and not of_type(bundle, "RiskAssessment")
    text = _diagnostics(bundle)
    assert "score2: sbp" in text and "prevent: bmi" in text
    assert "charlson: the visible record shows none of its findings" in text
    assert "cha2ds2-vasc: CHA2DS2-VASc is for people with atrial fibrillation" in text
    chart = _complete()
    chart.condition("49436004")  # atrial fibrillation
    bundle = predict(chart.resources)
    assert _models(bundle, "RiskAssessment") == [
        "framingham",
        "framingham-bmi",
        "prevent",
        "score2",
    ]
    assert _models(bundle, "Observation") == ["cha2ds2-vasc", "has-bled"]


def test_outside_its_indication_a_model_answers_only_by_name() -> None:
    chart = Chart(age=76, sex="female")
    chart.condition("38341003")
    bundle = predict(chart.resources, parameters(model="cha2ds2-vasc"))
    (score,) = of_type(bundle, "Observation")
    assert score["valueQuantity"]["value"] == 4  # age, sex, hypertension
    assert "the visible record shows none" in score["note"][1]["text"]
    override = {"atrial-fibrillation": ("valueBoolean", True)}
    bundle = predict(chart.resources, parameters(override=override))
    assert "cha2ds2-vasc" in _models(bundle, "Observation")


def _models(bundle: dict[str, Any], type_: str) -> list[str]:
    found = of_type(bundle, type_)
    return sorted(resource["method"]["coding"][0]["code"] for resource in found)


def test_one_model_without_result_names_each_missing_feature() -> None:
    text = _refusal(Chart(country=None))
    for expected in (
        "sbp (Systolic blood pressure): the record has none since 2021-06-01; codes http://loinc.org|8480-6",
        "unit mm[Hg]; look-back P5Y",
        "smoker (Current smoker)",
        "http://loinc.org|2093-3",
        "http://loinc.org|2085-9",
        "region (SCORE2 risk region of the country of residence): the Patient has no",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("age", "accepted"), [(39, False), (40, True), (69, True), (70, True), (89, True), (90, False)]
)
def test_age_limits(age: int, accepted: bool) -> None:
    chart = _complete(age=age)
    if accepted:
        assert 0 < _risk(predict(chart.resources, parameters(model="score2"))) < 1
    else:
        assert "outside the population of the model (40 to 89)" in _refusal(chart)


def test_who_is_outside_the_population() -> None:
    for code, system, reason in (
        ("44054006", SNOMED, "diabetes"),
        ("E11.9", "http://hl7.org/fhir/sid/icd-10-cm", "diabetes"),
        ("T90", "http://hl7.org/fhir/sid/icpc-2", "diabetes"),
        ("22298006", SNOMED, "established cardiovascular disease"),
        ("I63.9", "http://hl7.org/fhir/sid/icd-10", "established cardiovascular disease"),
    ):
        chart = _complete()
        chart.condition(code, system)
        assert reason in _refusal(chart)
    chart = _complete()
    chart.patient["deceasedDateTime"] = "2026-01-01"
    assert "deceased" in _refusal(chart)


def test_conditions_that_do_not_count() -> None:
    base = "http://terminology.hl7.org/CodeSystem"
    chart = _complete()
    refuted = {"coding": [{"system": f"{base}/condition-ver-status", "code": "refuted"}]}
    chart.condition("44054006", verificationStatus=refuted)
    chart.condition("22298006", recordedDate="2027-01-01")
    chart.condition("15777000")  # prediabetes
    resolved = {"coding": [{"system": f"{base}/condition-clinical", "code": "resolved"}]}
    chart.condition("44054006", clinicalStatus=resolved)
    assert _risk(predict(chart.resources, parameters(model="score2"))) > 0
    chart.condition("22298006", clinicalStatus=resolved)
    assert "established" in _refusal(chart)


def test_prevent_ranges() -> None:
    for code, value, unit, reason in (
        ("2093-3", 129, "mg/dL", "129 mg/dL is outside the population of the model (130 to 320)"),
        ("2093-3", 8.3, "mmol/L", "outside the population"),
        ("39156-5", 41, "kg/m2", "18.5 to 39.9"),
        ("62238-1", 150, "mL/min/{1.73_m2}", "15 to 140"),
        ("2085-9", 3000, "mg/dL", "is not plausible"),
    ):
        chart = _complete()
        chart.measure(code, value, unit, "2026-05-20")
        assert reason in _refusal(chart, model="prevent")
    chart = _complete()
    chart.pressure(181, "2026-05-20")
    assert "90 to 180" in _refusal(chart, model="prevent")
    chart.pressure(180, "2026-05-21")
    assert _risk(predict(chart.resources, parameters(model="prevent"))) > 0


def test_values_that_cannot_be_used_are_refused_not_skipped() -> None:
    for unit, reason in (("mm[Hg]", "cannot be converted"), ("furlong", "is not understood")):
        chart = _complete()
        chart.measure("2093-3", 5, unit, "2026-05-20")
        assert reason in _refusal(chart)
    chart = _complete()
    chart.measure("2093-3", 5, "mmol/L", "2026-05-20")["valueQuantity"]["comparator"] = "<"
    assert "only a bound" in _refusal(chart)
    chart = _complete()
    del chart.measure("2093-3", 5, "mmol/L", "2026-05-20")["valueQuantity"]["code"]
    chart.resources[-1]["valueQuantity"].pop("unit")
    assert "no unit" in _refusal(chart)
    chart = _complete()
    chart.smoking("266927001", "2026-05-20")  # unknown if ever smoked
    assert "does not answer" in _refusal(chart)


def test_the_newest_valid_value_within_the_look_back_counts() -> None:
    plain = _risk(predict(_complete().resources, parameters(model="score2")))
    chart = _complete()
    chart.measure("2093-3", 9, "mmol/L", "2025-01-01")  # older
    chart.measure("2093-3", 9, "mmol/L", "2026-07-01")  # after asOf
    chart.measure("2093-3", 9, "mmol/L", "2026-05-20", status="entered-in-error")
    chart.measure("2093-3", 9, "mmol/L", "2026-05-21", status="preliminary")
    del chart.measure("2093-3", 9, "mmol/L", "2026-05-22")["valueQuantity"]
    assert _risk(predict(chart.resources, parameters(model="score2"))) == plain
    chart.measure("2093-3", 9, "mmol/L", "2026-05-23", status="amended")
    assert _risk(predict(chart.resources, parameters(model="score2"))) > plain
    chart = Chart()
    chart.measure("2160-0", 0.9, "mg/dL", "2021-05-31")
    assert "look-back P5Y" in _refusal(chart, model="ckd-epi-2021")
    chart.measure("2160-0", 0.9, "mg/dL", "2021-06-01")
    assert of_type(predict(chart.resources, parameters(model="ckd-epi-2021")), "Observation")


def test_as_of_moves_age_and_values() -> None:
    chart = Chart(age=50)
    chart.measure("2160-0", 0.9, "mg/dL", "2024-03-01T10:00:00+02:00")
    chart.measure("2160-0", 2.0, "mg/dL", "2025-03-01")
    at = parameters(model="ckd-epi-2021", asOf="2024-06-01T00:00:00Z")
    (egfr,) = of_type(predict(chart.resources, at), "Observation")
    expected = 142 * 0.9938**48
    assert abs(float(egfr["valueQuantity"]["value"]) - expected) <= 0.005
    before = parameters(model="ckd-epi-2021", asOf="2024-03-01T07:59:59Z")
    with pytest.raises(Unprocessable):
        predict(chart.resources, before)
    for bad in ("yesterday", "2020", "2024-02-29", "2024-06-01T25:00:00Z", "2024-06-01T25:00:00"):
        with pytest.raises((BadRequest, Unprocessable), match="asOf"):
            predict(chart.resources, query=f"asOf={bad}")


def test_a_result_of_overrides_alone_is_sound_fhir() -> None:
    """Nothing of the record is its basis: no empty arrays, and it can be stored."""
    bare = [{"resourceType": "Patient", "id": "p"}]
    world = World(bare)
    given: dict[str, dict[str, Any]] = {
        "score2": {
            "age": ("valueInteger", 50),
            "sex": ("valueCode", "male"),
            "region": ("valueCode", "low"),
            "smoker": ("valueBoolean", True),
            "sbp": ("valueDecimal", Decimal(140)),
            "total-cholesterol": ("valueDecimal", Decimal("5.5")),
            "hdl-cholesterol": ("valueDecimal", Decimal("1.3")),
        },
        "ckd-epi-2021": {
            "age": ("valueInteger", 50),
            "sex": ("valueCode", "male"),
            "creatinine": ("valueDecimal", Decimal("0.9")),
        },
    }
    for model, override in given.items():
        bundle = predict(bare, parameters(model=model, override=override), world=world)
        for entry in bundle["entry"]:
            world.session.validate(entry["resource"])
        assert [e["resource"]["resourceType"] for e in bundle["entry"]]


def test_the_ends_of_time_are_no_crash() -> None:
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"):
        assert not of_type(predict(Chart().resources, query=f"asOf={moment}"), "RiskAssessment")


def test_overrides_are_what_if() -> None:
    chart = _complete(country=None)
    given = {
        "region": ("valueCode", "very high"),
        "8480-6": ("valueQuantity", {"value": Decimal("18.67"), "unit": "kPa"}),
        "smoker": ("valueBoolean", True),
    }
    bundle = predict(chart.resources, parameters(model="score2", override=given))
    assert _feature(bundle, "sbp")["origin"]["valueCode"] == "override"
    pressure = _feature(bundle, "sbp")["value"]["valueQuantity"]["value"]
    assert abs(float(pressure) - 140.04) < 0.01
    (risk,) = of_type(bundle, "RiskAssessment")
    assert any("What-if: region, smoker, sbp" in note["text"] for note in risk["note"])
    used = {basis["reference"] for basis in risk["basis"]}
    assert f"Observation/{chart.resources[1]['id']}/_history/1" not in used
    low = given | {"region": ("valueString", "low")}
    assert _risk(predict(chart.resources, parameters(model="score2", override=low))) < _risk(bundle)


@pytest.mark.parametrize(
    ("feature", "value", "reason"),
    [
        ("age", ("valueDecimal", Decimal("1e300")), "outside the population"),
        ("weight", ("valueDecimal", Decimal(80)), "unknown feature 'weight'; known: "),
        ("sbp", ("valueBoolean", True), "valueQuantity"),
        ("sbp", ("valueQuantity", {"value": 5, "unit": "mmol/L"}), "cannot be converted"),
        ("sbp", ("valueInteger", 500), "not plausible"),
        ("smoker", ("valueString", "yes"), "valueBoolean"),
        ("region", ("valueCode", "mars"), "one of low, moderate, high, very-high"),
        ("age", ("valueDecimal", Decimal("50.5")), "whole number"),
        ("age", ("valueInteger", 20), "outside the population"),
        ("diabetes", ("valueBoolean", True), "not derived for people with diabetes"),
    ],
)
def test_overrides_that_are_refused(feature: str, value: Any, reason: str) -> None:
    assert reason in _refusal(_complete(), override={feature: value})


def _urn(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["value", "unit", "code", "system", "coding"]), inner)
    ),
    max_leaves=6,
)
MEMBERS = ["valueQuantity", "valueDecimal", "valueBoolean", "valueCoding", "valueCodeableConcept"]


@pytest.fixture(scope="module")
def complete(each_store: None) -> World:
    """Everything that SCORE2 and PREVENT need, for tests that change nothing."""
    return World(_complete().resources)


@settings(max_examples=150, deadline=None)
@given(
    feature=st.sampled_from(["sbp", "smoker", "region", "age"]),
    member=st.sampled_from(MEMBERS),
    json=JSON,
)
def test_no_override_is_a_crash(complete: World, feature: str, member: str, json: Any) -> None:
    """Whatever stands in ``value[x]`` gives a result or a refusal."""
    with contextlib.suppress(Problem):
        predict([], parameters(model="score2", override={feature: (member, json)}), world=complete)


def test_a_model_that_cannot_run_is_503_alone_and_a_warning_beside_others(
    complete: World,
) -> None:
    broken = Registry.of(Road.runtime, [SHIPPED])
    version = broken.versions["score2-1.0.0"]
    other = dataclasses.replace(version.package, files={"model.onnx": "0" * 64})
    broken.versions["score2-1.0.0"] = Version(other)
    with pytest.raises(Unavailable, match=r"score2-1\.0\.0"):
        predict([], parameters(model="score2"), world=complete, models=broken)
    bundle = predict([], parameters(model=["score2", "prevent"]), world=complete, models=broken)
    (risk,) = of_type(bundle, "RiskAssessment")
    assert risk["method"]["coding"][0]["code"] == "prevent"
    assert "Model score2-1.0.0: the graph failed" in _diagnostics(bundle)


def test_what_is_about_another_focus_does_not_count() -> None:
    chart = _complete()
    chart.smoking("449868002", "2026-05-30")["focus"] = [{"reference": "RelatedPerson/r"}]
    plain = predict(_complete().resources, parameters(model="score2"))
    assert _risk(predict(chart.resources, parameters(model="score2"))) == _risk(plain)


def test_data_stands_for_the_record() -> None:
    chart = _complete()
    full = [{"fullUrl": _urn(i), "resource": r} for i, r in enumerate(chart.resources)]
    for entry in full[1:]:
        entry["resource"]["subject"] = {"reference": _urn(0)}
    foreign = Chart()
    other = foreign.measure("2093-3", 9, "mmol/L", "2026-05-30")
    other["subject"] = {"reference": "Patient/other"}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [*full, {"resource": other}]}
    stored = _risk(predict(_complete().resources, parameters(model="score2")))
    bare = [{"resourceType": "Patient", "id": "p"}]
    world = World(bare)
    answer = predict([], parameters(model="score2", data=bundle), world=world, level="type")
    assert _risk(answer) == stored and world.store.searches == []
    bare = predict([], bundle, query="model=score2", level="type")
    assert _risk(bare) == stored
    instance = predict(chart.resources, parameters(model="score2", data=bundle))
    assert _risk(instance) == stored


def test_data_that_is_refused() -> None:
    patient = {"resource": {"resourceType": "Patient", "id": "q"}}
    empty: dict[str, Any] = {"resourceType": "Bundle", "type": "collection"}
    for bundle in (empty, empty | {"entry": [patient, {"resource": {**patient["resource"]}}]}):
        with pytest.raises(Unprocessable):
            predict([], parameters(data=bundle), level="type")
    with pytest.raises(Unprocessable, match="another"):
        predict(_complete().resources, parameters(data=empty | {"entry": [patient]}))
    with pytest.raises(NotFound):
        predict([], parameters(data=empty | {"entry": [patient]}))
    with pytest.raises(BadRequest, match="'data' is required"):
        predict([], query="model=score2", level="type")


def test_unknown_model_patient_and_parameters() -> None:
    chart = _complete()
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
        predict(_complete().resources, query="model=score2&store=true")


def test_missing_features_as_one_task_while_it_is_open() -> None:
    world = World(Chart().resources)
    bundle = predict([], parameters(model="score2", missing="request"), world=world)
    (task,) = of_type(bundle, "Task")
    assert (task["status"], task["intent"]) == ("requested", "proposal")
    asked = {c["code"] for one in task["input"] for c in one["type"]["coding"]}
    assert {"8480-6", "2093-3", "2085-9", "72166-2", "sbp", "smoker"} <= asked
    assert task["for"] == {"reference": "Patient/p"}
    assert not of_type(bundle, "RiskAssessment")
    at = Road.runner.run(world.store.position())
    again = predict([], parameters(model="score2", missing="request"), world=world)
    assert of_type(again, "Task") == [task]
    assert Road.runner.run(world.store.position()) == at
    both = predict([], parameters(model=["score2", "prevent"], missing="request"), world=world)
    first, second = of_type(both, "Task")
    assert first == task
    new = {c["code"] for one in second["input"] for c in one["type"]["coding"]}
    assert "bmi" in new and "sbp" not in new
    done = {**task, "status": "completed"}
    Road.runner.run(world.session.write([Draft("PUT", Key("Task", task["id"]), done)]))
    fresh = predict([], parameters(model="score2", missing="request"), world=world)
    assert [t["id"] for t in of_type(fresh, "Task")] != [task["id"]]


def test_of_two_who_ask_at_once_one_makes_the_task() -> None:
    world = World(Chart().resources)
    operation = predict_operation(Road.models, indexes, world.system)
    given = parameters(model="score2", missing="request")

    async def both() -> list[Any]:
        def asked() -> Any:
            arguments = decode(operation.inputs, [], given, operation.body)
            call = Invocation("instance", "Patient", "p", "POST", "b", parse_instant(NOW))
            return operation.handler(arguments, world.session, call)

        return await asyncio.gather(asked(), asked())

    first, second = Road.runner.run(both())
    assert of_type(first, "Task") == of_type(second, "Task") != []


def test_what_asks_for_tasks() -> None:
    chart = Chart()
    with pytest.raises(MethodNotAllowed, match="missing=request"):
        predict(chart.resources, query="model=score2&missing=request")
    reader = World(chart.resources, scope=_scope())
    with pytest.raises(Forbidden, match="Task"):
        predict([], parameters(model="score2", missing="request"), world=reader)
    child = Chart(age=10)
    bundle = predict(child.resources, parameters(model="score2", missing="request"))
    assert not of_type(bundle, "Task")  # it would not help
    full = predict(_complete().resources, parameters(model="score2", missing="request"))
    assert of_type(full, "RiskAssessment") and not of_type(full, "Task")


def test_what_is_hypothetical_is_marked_and_never_stored() -> None:
    world, what_if = World(_complete().resources), {"smoker": ("valueBoolean", True)}
    with pytest.raises(BadRequest, match="never stored"):
        predict([], parameters(model="score2", override=what_if, store=True), world=world)
    bundle = predict([], parameters(model="score2", override=what_if), world=world)
    (risk,) = of_type(bundle, "RiskAssessment")
    assert [tag["code"] for tag in risk["meta"]["tag"]] == ["hypothetical"]
    (plain,) = of_type(predict([], parameters(model="score2"), world=world), "RiskAssessment")
    assert "tag" not in plain["meta"]


def test_contributions_sum_up_to_the_risk() -> None:
    (risk,) = of_type(predict(_complete().resources, parameters(model="score2")), "RiskAssessment")
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


TYPES = ("Observation", "Condition", "MedicationRequest", "MedicationStatement")


def _scope(*without: str) -> str:
    kinds = [type_ for type_ in TYPES if type_ not in without]
    return " ".join(["patient/Patient.r", *(f"patient/{type_}.rs" for type_ in kinds)])


def test_types_that_may_not_be_searched_are_not_taken_as_empty() -> None:
    for denied, model in (
        (("Condition",), "score2"),
        (("Condition",), "prevent"),
        (("Observation",), "score2"),
        (("MedicationRequest", "MedicationStatement"), "prevent"),
    ):
        world = World(_complete().resources, scope=_scope(*denied))
        with pytest.raises(Unprocessable, match=f"{denied[0]} may not be searched"):
            predict([], parameters(model=model), world=world)


def test_only_what_the_session_shows_is_used() -> None:
    world = World(_complete().resources, scope=_scope())
    assert _risk(predict([], parameters(model="score2"), world=world)) > 0
    other = [
        {**r, "id": "q"} if r["resourceType"] == "Patient" else r for r in _complete().resources
    ]
    world = World(other, scope="patient/*.rs")
    with pytest.raises(NotFound):
        predict([], parameters(model="score2"), world=world)


def test_what_the_patient_only_performed_is_not_his() -> None:
    chart = _complete()
    plain = _risk(predict(chart.resources, parameters(model="score2")))
    chart.add("Patient", "child")
    del chart.resources[-1]["subject"]
    foreign = chart.measure("2093-3", 9, "mmol/L", "2026-05-30")
    foreign |= {
        "performer": [{"reference": "Patient/p"}],
        "subject": {"reference": "Patient/child"},
    }
    chart.condition("44054006", asserter={"reference": "Patient/p"})
    chart.resources[-1]["subject"] = {"reference": "Patient/child"}
    assert _risk(predict(chart.resources, parameters(model="score2"))) == plain


def test_one_search_per_type_and_rare_values_behind_many() -> None:
    chart = _complete()
    world = World(chart.resources)
    predict([], parameters(model=["score2", "prevent"]), world=world)
    assert world.searched == list(TYPES)
    for month in range(3, 6):
        for day in range(1, 29):
            chart.pressure(140, f"2026-{month:02}-{day:02}T10:00:00Z")
            chart.pressure(140, f"2026-{month:02}-{day:02}T20:00:00Z")
    chart.pressure(140, "2026-05-31")
    world = World(chart.resources)
    bundle = predict([], parameters(model="score2"), world=world)
    assert _feature(bundle, "sbp")["date"]["valueString"] == "2026-05-31"
    assert world.searched == ["Observation", "Observation", "Condition"]


def test_all_models_read_a_small_record_by_one_search_and_a_large_one_alike() -> None:
    chart = _complete(age=60)
    chart.resources[1]["effectiveDateTime"] = "2024-05-01"  # the pressure, behind the others
    world = World(chart.resources)
    small = predict([], world=world)
    assert world.searched == list(TYPES)
    for number in range(300):
        chart.measure(
            "8302-2", 170 + number / 100, "cm", f"2025-{1 + number // 28:02}-{1 + number % 28:02}"
        )
    chart.resources[1]["component"][0]["valueQuantity"]["value"] = Decimal(150)
    large = predict([], world=World(chart.resources))
    assert _models(large, "RiskAssessment") == _models(small, "RiskAssessment")
    assert len(_models(large, "RiskAssessment")) == 4
    assert _probabilities(large) != _probabilities(small)


def _probabilities(bundle: dict[str, Any]) -> list[Decimal]:
    risks = of_type(bundle, "RiskAssessment")
    return [p["probabilityDecimal"] for risk in risks for p in risk["prediction"]]


def test_who_is_outside_gets_one_reason_per_model_when_none_is_named() -> None:
    text = _diagnostics(predict(Chart(age=10).resources))
    assert "framingham: age (Age in completed years): 10 a is outside the population" in text
    assert "framingham: sbp" not in text


def test_store_writes_the_drafts_and_nothing_else() -> None:
    world = World(_complete().resources)
    before = Road.runner.run(world.store.position())
    predict([], parameters(model="score2"), world=world)
    assert Road.runner.run(world.store.position()) == before
    bundle = predict([], parameters(model="score2", store=True), world=world)
    devices = len(Road.models.versions)
    assert (
        Road.runner.run(world.store.position()) == before + 2 * devices + 2
    )  # cards; then the drafts
    assert Road.runner.run(publish(Road.models, world.system)) == []
    assert Road.runner.run(world.session.read(Key("Device", "score2-1.0.0")))
    (risk,) = of_type(bundle, "RiskAssessment")
    (made,) = of_type(bundle, "Provenance")
    assert risk["meta"]["versionId"] == "1" and risk["status"] == "preliminary"
    assert made["target"] == [{"reference": f"RiskAssessment/{risk['id']}"}]
    stored = Road.runner.run(world.session.read(Key("RiskAssessment", risk["id"])))
    assert loads(stored.body) == risk
    reader = World(_complete().resources, scope=_scope())
    with pytest.raises(Forbidden):
        predict([], parameters(model="score2", store=True), world=reader)
    assert Road.runner.run(reader.store.position()) == len(_complete().resources)


def test_results_are_valid_resources() -> None:
    chart = _complete()
    chart.measure("2160-0", 0.9, "mg/dL")
    bundle = predict(chart.resources)
    kinds = {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert kinds == {"Observation", "RiskAssessment", "Device", "Provenance", "OperationOutcome"}
    World.check(loads(dumps(bundle)))
    tasks = predict(Chart().resources, parameters(model="score2", missing="request"))
    World.check(loads(dumps(tasks)))


def test_medications_that_do_not_count() -> None:
    plain = _risk(predict(_complete().resources, parameters(model="prevent")))
    chart = _complete()
    chart.drug("C10AA05", status="stopped")
    chart.drug("C10AA05", doNotPerform=True)
    chart.drug("C10AA05", intent="proposal")
    chart.drug("C10AA05", authoredOn="2026-07-01")
    chart.drug("C10AA05", dispenseRequest={"validityPeriod": {"end": "2026-01-01"}})
    chart.drug("G01AA01")["medicationCodeableConcept"]["text"] = "Nystatin"
    bundle = predict(chart.resources, parameters(model="prevent"))
    assert _risk(bundle) == plain
    contained = {"resourceType": "Medication", "id": "m", "code": {"text": "Atorvastatin 20 mg"}}
    order = chart.drug("x", contained=[contained], medicationReference={"reference": "#m"})
    del order["medicationCodeableConcept"]
    bundle = predict(chart.resources, parameters(model="prevent"))
    assert _risk(bundle) != plain
    assert "recognised by the name 'atorvastatin'" in _diagnostics(bundle)


def test_partial_birth_dates_and_sex() -> None:
    chart = _complete()
    chart.patient["birthDate"] = "1976"
    bundle = predict(chart.resources, parameters(model="score2"))
    assert "leaves the age between 49 and 50" in _diagnostics(bundle)
    chart.patient["birthDate"] = "1986"
    assert "39 a is outside" in _refusal(chart)
    chart.patient["birthDate"] = "2027-01-01"
    assert "after asOf" in _refusal(chart)
    chart.patient["gender"] = "unknown"
    assert "sex (Sex (administrative gender))" in _refusal(chart)
