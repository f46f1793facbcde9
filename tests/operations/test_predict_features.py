"""Features told one by one, and the kinds that shipped models do not use."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from predicting import LOINC, NOW, Chart, Road, World, indexes

from fhir_server.access.session import Session
from operations.models.evidence import Moment
from operations.models.explain import Explained, explain_features
from operations.models.session_record import SessionRecord


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
