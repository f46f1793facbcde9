"""Features told one by one, and the kinds that shipped models do not use."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from predicting import LOINC, NOW, Chart, Road, World, indexes

from fhir_server.access.session import Session
from operations.models.casing import comparable
from operations.models.evidence import Moment, matches
from operations.models.explain import Explained, explain_features
from operations.models.manifest import Concept
from operations.models.session_record import SessionRecord

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def told(resources: list[dict[str, Any]], model: str) -> dict[str, Explained]:
    session: Session = World(resources).session
    reader = SessionRecord(session, "p", indexes)
    work = explain_features(Road.models, reader, model, Moment.of(NOW))
    found = Road.runner.run(work)
    return {one.feature: one for one in found.features}


def test_each_feature_says_which_version_code_and_conversion_gave_it() -> None:
    chart = Chart()
    chart.measure("14682-9", 79.56, "umol/L")
    chart.pressure(140)
    found = told(chart.resources, "prevent")
    pressure = found["sbp"]
    assert (pressure.value, pressure.unit, pressure.date) == (140, "mm[Hg]", "2026-05-01")
    (source,) = pressure.sources
    assert source.reference == f"Observation/{chart.resources[2]['id']}/_history/1"
    assert source.codes == (f"{LOINC}|8480-6",)
    egfr = found["egfr"]
    assert egfr.origin == "derived" and egfr.value is not None
    assert "ckd-epi-2021-1.0.0 from creatinine 0.9 mg/dL" in egfr.conversion
    assert found["diabetes"].origin == "assumed"
    assert found["bmi"].value is None and "none since 2021-06-01" in found["bmi"].missing
    creatinine = told(chart.resources, "ckd-epi-2021")["creatinine"]
    assert creatinine.value == Decimal("0.9")
    assert "79.56 umol/L = 0.9 mg/dL" in creatinine.conversion
    assert creatinine.recorded["value"] == Decimal("79.56")
    assert creatinine.to_json()["sources"][0]["codes"] == (f"{LOINC}|14682-9",)


def condition(system: str, code: str) -> dict[str, Any]:
    concept = {"coding": [{"system": system, "code": code}]}
    active = {"coding": [{"system": f"{TERMINOLOGY}/condition-clinical", "code": "active"}]}
    return {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p"},
        "code": concept,
        "clinicalStatus": active,
    }


@pytest.mark.parametrize("code", ["E11.9", "e11.9"])
def test_conditions_are_found_in_any_case(code: str) -> None:
    recorded = [*Chart().resources, condition("http://hl7.org/fhir/sid/icd-10", code)]
    assert told(recorded, "prevent")["diabetes"].value == 1
    assert matches(recorded[-1]["code"], Concept("", icd10=("E11",))) == code


def test_observations_are_found_in_any_case() -> None:
    """But for systems of which FHIR says that case matters."""
    chart = Chart()
    chart.measure("14682-9", 1, "mg/dL")
    cased, other = f"{TERMINOLOGY}/observation-category", "http://example.org/laboratory"
    for n, (system, code) in enumerate([(other, "gLU"), (cased, "gLU"), (other, "glucose")]):
        chart.resources.append(copy.deepcopy(chart.resources[-1]))
        chart.resources[-1] |= {"id": f"o{n}"}
        chart.resources[-1]["code"] = {"coding": [{"system": system, "code": code}]}
    reader = SessionRecord(World(chart.resources).session, "p", indexes)

    def found(system: str, code: str) -> list[str]:
        items = Road.runner.run(reader.observations([[(system, code)]], 2**62)) or []
        return [item.resource["id"] for item in items]

    assert found(other, "GLU") == found(other, "glu") == ["o0"]
    assert found(cased, "GLU") == [] and found(cased, "gLU") == ["o1"]
    assert comparable((other, "GLU")) != comparable((cased, "GLU"))
