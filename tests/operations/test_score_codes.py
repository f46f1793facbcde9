"""What others write for the parameters of early warning scores, read as what it means."""

from __future__ import annotations

from typing import Any

import pytest
from predicting import LOINC, NOW, SNOMED, Chart, of_type, parameters, predict

ACVPU = "1104441000000107"
"""Alert, confusion, voice, pain, unresponsive: the NEWS2 profiles of the NHS and of Norway."""


def _vitals(consciousness: tuple[str, str], answer: str, **other: tuple[str, str]) -> Chart:
    chart = Chart()
    for code, value, unit in (
        ("9279-1", 16, "/min"),
        ("59408-5", 97, "%"),
        ("8867-4", 75, "/min"),
    ):
        chart.measure(code, value, unit, NOW)
    for name, value, unit in (("sbp", 120, "mm[Hg]"), ("temperature", 37, "Cel")):
        system, code = other.get(name, (LOINC, {"sbp": "8480-6", "temperature": "8310-5"}[name]))
        one = chart.measure(code, value, unit, NOW)
        one["code"]["coding"][0]["system"] = system
    coded = {"coding": [{"system": consciousness[0], "code": consciousness[1]}]}
    value = {"coding": [{"system": SNOMED, "code": answer}]}
    at = {"effectiveDateTime": NOW, "valueCodeableConcept": value}
    chart.add("Observation", status="final", code=coded, **at)
    return chart


def _score(chart: Chart, model: str) -> Any:
    (found,) = of_type(predict(chart.resources, parameters(model=model)), "Observation")
    return found["valueQuantity"]["value"]


@pytest.mark.parametrize("model", ["news2", "news2-trend"])
@pytest.mark.parametrize("code", [(LOINC, "67775-7"), (LOINC, "80288-4"), (SNOMED, ACVPU)])
@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("248234008", 0),  # mentally alert
        ("130987000", 3),  # acute confusion
        ("300202002", 3),  # responds to voice
        ("450847001", 3),  # responds to pain
        ("248236005", 3),  # the same by clinosim
        ("248237001", 3),
        ("422768004", 3),  # unresponsive
    ],
)
def test_consciousness_is_known_by_what_others_write(
    model: str, code: tuple[str, str], answer: str, points: int
) -> None:
    assert _score(_vitals(code, answer), model) == points


@pytest.mark.parametrize("model", ["news2", "news2-trend"])
def test_the_snomed_codes_of_the_nhs_are_enough(model: str) -> None:
    pressure, core = (SNOMED, "72313002"), (SNOMED, "276885007")
    chart = _vitals((SNOMED, ACVPU), "248234008", sbp=pressure, temperature=core)
    assert _score(chart, model) == 0
