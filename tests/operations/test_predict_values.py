"""What of the record ``$predict`` takes as a value, and what it does not."""

from __future__ import annotations

import pytest
from predicting import (
    SNOMED,
    Chart,
    complete,
    diagnostics,
    of_type,
    parameters,
    predict,
    refusal,
    risk_of,
)

from fhir_server.model.problem import (
    BadRequest,
    Unprocessable,
)

pytestmark = pytest.mark.usefixtures("each_store")


@pytest.mark.parametrize(
    ("age", "accepted"), [(39, False), (40, True), (69, True), (70, True), (89, True), (90, False)]
)
def test_age_limits(age: int, accepted: bool) -> None:
    chart = complete(age=age)
    if accepted:
        assert 0 < risk_of(predict(chart.resources, parameters(model="score2"))) < 1
    else:
        assert "outside the population of the model (40 to 89)" in refusal(chart)


def test_who_is_outside_the_population() -> None:
    for code, system, reason in (
        ("44054006", SNOMED, "diabetes"),
        ("E11.9", "http://hl7.org/fhir/sid/icd-10-cm", "diabetes"),
        ("T90", "http://hl7.org/fhir/sid/icpc-2", "diabetes"),
        ("22298006", SNOMED, "established cardiovascular disease"),
        ("I63.9", "http://hl7.org/fhir/sid/icd-10", "established cardiovascular disease"),
    ):
        chart = complete()
        chart.condition(code, system)
        assert reason in refusal(chart)
    chart = complete()
    chart.patient["deceasedDateTime"] = "2026-01-01"
    assert "deceased" in refusal(chart)


def test_conditions_that_do_not_count() -> None:
    base = "http://terminology.hl7.org/CodeSystem"
    chart = complete()
    refuted = {"coding": [{"system": f"{base}/condition-ver-status", "code": "refuted"}]}
    chart.condition("44054006", verificationStatus=refuted)
    chart.condition("22298006", recordedDate="2027-01-01")
    chart.condition("15777000")  # prediabetes
    resolved = {"coding": [{"system": f"{base}/condition-clinical", "code": "resolved"}]}
    chart.condition("44054006", clinicalStatus=resolved)
    assert risk_of(predict(chart.resources, parameters(model="score2"))) > 0
    chart.condition("22298006", clinicalStatus=resolved)
    assert "established" in refusal(chart)


def test_prevent_ranges() -> None:
    for code, value, unit, reason in (
        ("2093-3", 129, "mg/dL", "129 mg/dL is outside the population of the model (130 to 320)"),
        ("2093-3", 8.3, "mmol/L", "outside the population"),
        ("39156-5", 41, "kg/m2", "18.5 to 39.9"),
        ("62238-1", 150, "mL/min/{1.73_m2}", "15 to 140"),
        ("2085-9", 3000, "mg/dL", "is not plausible"),
    ):
        chart = complete()
        chart.measure(code, value, unit, "2026-05-20")
        assert reason in refusal(chart, model="prevent")
    chart = complete()
    chart.pressure(181, "2026-05-20")
    assert "90 to 180" in refusal(chart, model="prevent")
    chart.pressure(180, "2026-05-21")
    assert risk_of(predict(chart.resources, parameters(model="prevent"))) > 0


def test_values_that_cannot_be_used_are_refused_not_skipped() -> None:
    for unit, reason in (("mm[Hg]", "cannot be converted"), ("furlong", "is not understood")):
        chart = complete()
        chart.measure("2093-3", 5, unit, "2026-05-20")
        assert reason in refusal(chart)
    chart = complete()
    chart.measure("2093-3", 5, "mmol/L", "2026-05-20")["valueQuantity"]["comparator"] = "<"
    assert "only a bound" in refusal(chart)
    chart = complete()
    del chart.measure("2093-3", 5, "mmol/L", "2026-05-20")["valueQuantity"]["code"]
    chart.resources[-1]["valueQuantity"].pop("unit")
    assert "no unit" in refusal(chart)
    chart = complete()
    chart.smoking("266927001", "2026-05-20")  # unknown if ever smoked
    assert "does not answer" in refusal(chart)


def test_the_newest_valid_value_within_the_look_back_counts() -> None:
    plain = risk_of(predict(complete().resources, parameters(model="score2")))
    chart = complete()
    chart.measure("2093-3", 9, "mmol/L", "2025-01-01")  # older
    chart.measure("2093-3", 9, "mmol/L", "2026-07-01")  # after asOf
    chart.measure("2093-3", 9, "mmol/L", "2026-05-20", status="entered-in-error")
    chart.measure("2093-3", 9, "mmol/L", "2026-05-21", status="preliminary")
    del chart.measure("2093-3", 9, "mmol/L", "2026-05-22")["valueQuantity"]
    assert risk_of(predict(chart.resources, parameters(model="score2"))) == plain
    chart.measure("2093-3", 9, "mmol/L", "2026-05-23", status="amended")
    assert risk_of(predict(chart.resources, parameters(model="score2"))) > plain
    chart = Chart()
    chart.measure("2160-0", 0.9, "mg/dL", "2021-05-31")
    assert "look-back P5Y" in refusal(chart, model="ckd-epi-2021")
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


def test_the_ends_of_time_are_no_crash() -> None:
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"):
        assert not of_type(predict(Chart().resources, query=f"asOf={moment}"), "RiskAssessment")


def test_what_is_about_another_focus_does_not_count() -> None:
    chart = complete()
    chart.smoking("449868002", "2026-05-30")["focus"] = [{"reference": "RelatedPerson/r"}]
    plain = predict(complete().resources, parameters(model="score2"))
    assert risk_of(predict(chart.resources, parameters(model="score2"))) == risk_of(plain)


def test_what_the_patient_only_performed_is_not_his() -> None:
    chart = complete()
    plain = risk_of(predict(chart.resources, parameters(model="score2")))
    chart.add("Patient", "child")
    del chart.resources[-1]["subject"]
    foreign = chart.measure("2093-3", 9, "mmol/L", "2026-05-30")
    foreign |= {
        "performer": [{"reference": "Patient/p"}],
        "subject": {"reference": "Patient/child"},
    }
    chart.condition("44054006", asserter={"reference": "Patient/p"})
    chart.resources[-1]["subject"] = {"reference": "Patient/child"}
    assert risk_of(predict(chart.resources, parameters(model="score2"))) == plain


def test_medications_that_do_not_count() -> None:
    plain = risk_of(predict(complete().resources, parameters(model="prevent")))
    chart = complete()
    chart.drug("C10AA05", status="stopped")
    chart.drug("C10AA05", doNotPerform=True)
    chart.drug("C10AA05", intent="proposal")
    chart.drug("C10AA05", authoredOn="2026-07-01")
    chart.drug("C10AA05", dispenseRequest={"validityPeriod": {"end": "2026-01-01"}})
    chart.drug("G01AA01")["medicationCodeableConcept"]["text"] = "Nystatin"
    bundle = predict(chart.resources, parameters(model="prevent"))
    assert risk_of(bundle) == plain
    contained = {"resourceType": "Medication", "id": "m", "code": {"text": "Atorvastatin 20 mg"}}
    order = chart.drug("x", contained=[contained], medicationReference={"reference": "#m"})
    del order["medicationCodeableConcept"]
    bundle = predict(chart.resources, parameters(model="prevent"))
    assert risk_of(bundle) != plain
    assert "recognised by the name 'atorvastatin'" in diagnostics(bundle)


def test_partial_birth_dates_and_sex() -> None:
    chart = complete()
    chart.patient["birthDate"] = "1976"
    bundle = predict(chart.resources, parameters(model="score2"))
    assert "leaves the age between 49 and 50" in diagnostics(bundle)
    chart.patient["birthDate"] = "1986"
    assert "39 a is outside" in refusal(chart)
    chart.patient["birthDate"] = "2027-01-01"
    assert "after asOf" in refusal(chart)
    chart.patient["gender"] = "unknown"
    assert "sex (Sex (administrative gender))" in refusal(chart)
