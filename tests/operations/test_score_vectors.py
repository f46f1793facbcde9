"""The vectors of the equations and scores through the whole road: FHIR in, FHIR out.

What each input looks like in a record is written here, apart from ``features.toml``.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from predicting import LOINC, SNOMED, Chart, Road, World, of_type, parameters, predict

from fhir_server.model.problem import Unprocessable
from operations.models.registry import SHIPPED

pytestmark = pytest.mark.usefixtures("each_store")

OWN = "urn:vehr:fhir:CodeSystem:model-feature"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
FOLDERS = [
    "kfre_4",
    "framingham",
    "framingham_bmi",
    "meld_3",
    "fib_4",
    "news2",
    "qsofa",
    "cha2ds2_vasc",
    "has_bled",
    "findrisc",
    "charlson",
]

MEASURED: dict[str, tuple[str, str, str]] = {
    "egfr": ("98979-8", "mL/min/{1.73_m2}", "mL/min/{1.73_m2}"),
    "acr": ("9318-7", "mg/g", "mg/mmol"),
    "total-cholesterol": ("2093-3", "mg/dL", "mmol/L"),
    "hdl-cholesterol": ("2085-9", "mg/dL", "mmol/L"),
    "bmi": ("39156-5", "kg/m2", "kg/m2"),
    "bilirubin": ("1975-2", "mg/dL", "umol/L"),
    "sodium": ("2951-2", "mmol/L", "meq/L"),
    "inr": ("6301-6", "{INR}", "1"),
    "creatinine": ("2160-0", "mg/dL", "umol/L"),
    "albumin": ("1751-7", "g/dL", "g/L"),
    "ast": ("1920-8", "U/L", "U/L"),
    "alt": ("1742-6", "U/L", "U/L"),
    "platelets": ("777-3", "10*9/L", "10*3/uL"),
    "respiratory-rate": ("9279-1", "/min", "/min"),
    "spo2": ("59408-5", "%", "1"),
    "pulse": ("8867-4", "/min", "/min"),
    "temperature": ("8310-5", "Cel", "[degF]"),
    "gcs": ("9269-2", "{score}", "1"),
    "waist": ("8280-0", "cm", "m"),
}
"""Feature: LOINC code, the unit of the vectors, another unit."""

FACTORS = {
    "acr": Decimal(1) / Decimal("8.84"),
    "total-cholesterol": Decimal("0.02586"),
    "hdl-cholesterol": Decimal("0.02586"),
    "bilirubin": Decimal("17.1"),
    "creatinine": Decimal("88.4"),
    "albumin": Decimal(10),
    "spo2": Decimal("0.01"),
    "waist": Decimal("0.01"),
}

DISEASES: dict[str, tuple[str, str]] = {
    "dialysis": ("105502003", "Z99.2"),
    "diabetes": ("44054006", "E11.9"),
    "heart-failure": ("84114007", "I50.9"),
    "hypertension": ("38341003", "I10"),
    "vascular-disease": ("399211009", "I25.2"),
    "stroke": ("230690007", "I63.9"),
    "renal": ("46177005", "N18.5"),
    "liver": ("19943007", "K74.6"),
    "bleeding": ("74474003", "K92.2"),
    "alcohol": ("7200002", "F10.2"),
    "high-glucose": ("15777000", "R73.0"),
    "myocardial-infarction": ("22298006", "I21.9"),
    "congestive-heart-failure": ("42343007", "I50.0"),
    "peripheral-vascular-disease": ("399957001", "I73.9"),
    "cerebrovascular-disease": ("230690007", "I63.9"),
    "dementia": ("26929004", "G30.9"),
    "chronic-pulmonary-disease": ("13645005", "J44.9"),
    "connective-tissue-disease": ("69896004", "M06.9"),
    "peptic-ulcer": ("13200003", "K27.9"),
    "mild-liver-disease": ("76783007", "K73.9"),
    "severe-liver-disease": ("34742003", "K76.6"),
    "diabetes-complicated": ("127013003", "E11.2"),
    "hemiplegia": ("50582007", "G81.9"),
    "renal-disease": ("433146000", "N18.5"),
    "solid-tumour": ("254837009", "C50.9"),
    "leukaemia": ("93143009", "C91.1"),
    "lymphoma": ("118600007", "C83.3"),
    "metastatic-tumour": ("128462008", "C78.7"),
    "aids": ("62479008", "B24"),
}
"""Feature: SNOMED CT, ICD-10."""

DRUGS = {"bp-treated": "C09AA03", "drugs": "B01AC06"}
ANSWERS: dict[str, tuple[str, str, str, str]] = {
    "smoker": (LOINC, "72166-2", "449868002", "266919005"),
    "on-oxygen": (SNOMED, "371825009", "373066001", "373067005"),
    "labile-inr": (OWN, "has-bled-labile-inr", "373066001", "373067005"),
    "active": (OWN, "findrisc-active", "373066001", "373067005"),
    "vegetables-daily": (OWN, "findrisc-vegetables", "373066001", "373067005"),
}
"""Feature: code, the SNOMED CT answers for yes and no."""

CHOSEN: dict[str, tuple[str, str, dict[str, tuple[str, str]]]] = {
    "consciousness": (
        LOINC,
        "67775-7",
        {"alert": (LOINC, "LA9340-6"), "cvpu": (SNOMED, "450847001")},
    ),
    "spo2-scale": (
        OWN,
        "news2-spo2-scale",
        {"scale-1": (OWN, "scale-1"), "scale-2": (OWN, "scale-2")},
    ),
    "family": (
        OWN,
        "findrisc-family",
        {n: (OWN, n) for n in ("none", "second-degree", "first-degree")},
    ),
}
COUNTRIES = {"north-american": "USA", "non-north-american": "Україна"}
NEEDED = {"cha2ds2_vasc": "49436004", "has_bled": "49436004", "meld_3": "19943007"}


def _vectors(folder: str) -> list[dict[str, Any]]:
    path: Path = SHIPPED / folder / "golden.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _name(folder: str) -> str:
    return folder.replace("_", "-")


def _measure(chart: Chart, folder: str, name: str, value: Any, other: bool) -> None:
    code, unit, second = MEASURED[name]
    number = Decimal(str(value))
    if folder == "has_bled" and name == "creatinine":  # its vectors are in umol/L
        unit, second, number = (
            ("mg/dL", "umol/L", number / FACTORS[name])
            if not other
            else ("umol/L", "umol/L", number)
        )
    elif other and name == "temperature":
        number = number * 9 / 5 + 32
    elif other:
        number *= FACTORS.get(name, Decimal(1))
    chart.measure(code, str(number), second if other else unit, "2026-06-01T08:00:00Z")


def _coded(chart: Chart, system: str, code: str, answer: tuple[str, str]) -> None:
    chart.add(
        "Observation",
        status="final",
        code={"coding": [{"system": system, "code": code}]},
        effectiveDateTime="2026-06-01T08:00:00Z",
        valueCodeableConcept={"coding": [{"system": answer[0], "code": answer[1]}]},
    )


def _chart(folder: str, inputs: dict[str, Any], other: bool = False) -> Chart:
    """A record that shows exactly the inputs of a vector."""
    country = COUNTRIES.get(inputs.get("calibration", ""))
    chart = Chart(inputs.get("sex", "male"), inputs["age"], country)
    if folder in NEEDED:
        chart.condition(NEEDED[folder])
    for name, value in inputs.items():
        if name == "sbp":
            chart.pressure(value, "2026-06-01T08:00:00Z")
        elif name in MEASURED:
            _measure(chart, folder, name, value, other)
        elif name in CHOSEN:
            system, code, answers = CHOSEN[name]
            _coded(chart, system, code, answers[value])
        elif name in ANSWERS:
            system, code, yes, no = ANSWERS[name]
            _coded(chart, system, code, (SNOMED, yes if value else no))
        elif name in DISEASES and value:
            code = DISEASES[name][other]
            chart.condition(code, ICD10 if other else SNOMED)
        elif name in DRUGS and value:
            chart.drug(DRUGS[name])
    return chart


def _outputs(bundle: dict[str, Any]) -> dict[str, Decimal]:
    """Every output by name: predictions of a RiskAssessment, value and components of a score."""
    found: dict[str, Decimal] = {}
    for risk in of_type(bundle, "RiskAssessment"):
        for one in risk["prediction"]:
            found[one["outcome"]["coding"][0]["code"]] = one["probabilityDecimal"]
    for score in of_type(bundle, "Observation"):
        for part in (score, *score.get("component", [])):
            found[part["code"]["coding"][-1]["code"]] = part["valueQuantity"]["value"]
    return found


ROUNDED = {"fib-4": 0.005, "meld-3-raw": 0.00005}


@pytest.mark.parametrize("other", [False, True], ids=["one unit", "other unit and ICD-10"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_vectors(folder: str, other: bool) -> None:
    for vector in _vectors(folder):
        chart = _chart(folder, vector["inputs"], other)
        found = _outputs(predict(chart.resources, parameters(model=_name(folder))))
        for name, expected in vector["expected"].items():
            allowed = vector["tolerance"] + ROUNDED.get(name, 1e-6)
            assert abs(float(found[name]) - expected) <= allowed, (vector, name, found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_results_are_stored_like_any_write(folder: str) -> None:
    """Validation is part of it; the stored score is found by its code."""
    world = World(_chart(folder, _vectors(folder)[0]["inputs"]).resources)
    bundle = predict([], parameters(model=_name(folder), store=True), world=world)
    (result,) = of_type(bundle, "RiskAssessment") + of_type(bundle, "Observation")
    assert result["status"] == "preliminary" and result["meta"]["versionId"] == "1"
    if result["resourceType"] == "Observation":
        own = {c["code"] for c in result["code"]["coding"]}
        assert _name(folder) in own


def test_what_is_assumed_is_told_once() -> None:
    chart = _chart("charlson", _vectors("charlson")[0]["inputs"])
    bundle = predict(chart.resources, parameters(model="charlson"))
    (outcome,) = of_type(bundle, "OperationOutcome")
    (issue,) = outcome["issue"]
    assert "Dementia; Chronic pulmonary disease; " in issue["diagnostics"]
    assert "Myocardial infarction" not in issue["diagnostics"]


OVERRIDES: list[tuple[str, str, tuple[str, Any], str, Any]] = [
    ("news2", "on-oxygen", ("valueBoolean", True), "oxygen-points", 2),
    ("news2", "consciousness", ("valueCode", "cvpu"), "consciousness-points", 3),
    ("findrisc", "family", ("valueCode", "first_degree"), "findrisc", 21 + 5),
    ("findrisc", "active", ("valueBoolean", True), "findrisc", 21 - 2),
    ("cha2ds2_vasc", "stroke", ("valueBoolean", False), "cha2ds2-vasc", 7),
    ("charlson", "aids", ("valueBoolean", True), "charlson", 15),
]


@pytest.mark.parametrize(("folder", "feature", "value", "output", "expected"), OVERRIDES)
def test_what_if(
    folder: str, feature: str, value: tuple[str, Any], output: str, expected: Any
) -> None:
    inputs = _vectors(folder)[0]["inputs"]
    asked = parameters(model=_name(folder), override={feature: value})
    found = _outputs(predict(_chart(folder, inputs).resources, asked))
    assert found[output] == expected


def test_a_wrong_vector_is_seen() -> None:
    vector = next(v for v in _vectors("news2") if v["inputs"]["temperature"] == 39.1)
    chart = _chart("news2", vector["inputs"] | {"temperature": 39.0})
    found = _outputs(predict(chart.resources, parameters(model="news2")))
    assert found["news2"] != vector["expected"]["news2"]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("kfre_4", {"egfr": 60}, "outside the population of the model (10 to 59.99)"),
    ("kfre_4", {"acr": 0.01}, "acr (Albumin to creatinine ratio in urine): 0.01 mg/g is not"),
    ("kfre_4", {"age": 17}, "outside the population"),
    ("framingham", {"age": 29}, "outside the population of the model (30 to 74)"),
    ("framingham", {"age": 75}, "outside the population of the model (30 to 74)"),
    ("framingham_bmi", {"bmi": 101}, "is not plausible"),
    ("meld_3", {"albumin": 40}, "is not plausible"),
    ("meld_3", {"age": 11}, "outside the population"),
    ("fib_4", {"platelets": 5000}, "is not plausible"),
    ("fib_4", {"age": 17}, "outside the population"),
    ("news2", {"age": 15}, "outside the population"),
    ("news2", {"temperature": 98.6}, "is not plausible"),
    ("qsofa", {"gcs": 2}, "is not plausible"),
    ("has_bled", {"sbp": 400}, "is not plausible"),
    ("cha2ds2_vasc", {"age": 17}, "outside the population"),
    ("findrisc", {"waist": 300}, "is not plausible"),
    ("charlson", {"age": 17}, "outside the population"),
]


@pytest.mark.parametrize(("folder", "change", "reason"), REFUSED)
def test_what_is_outside_is_refused(folder: str, change: dict[str, Any], reason: str) -> None:
    inputs = _vectors(folder)[0]["inputs"] | change
    with pytest.raises(Unprocessable) as caught:
        predict(_chart(folder, inputs).resources, parameters(model=_name(folder)))
    assert reason in "\n".join(issue.diagnostics for issue in caught.value.issues)


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f not in ("charlson", "cha2ds2_vasc")])
def test_each_missing_measurement_is_named(folder: str) -> None:
    chart = Chart(age=60, country=None)
    with pytest.raises(Unprocessable) as caught:
        predict(chart.resources, parameters(model=_name(folder)))
    text = "\n".join(issue.diagnostics for issue in caught.value.issues)
    optional = {"creatinine"} if folder == "has_bled" else set()
    for name in _vectors(folder)[0]["inputs"].keys() & MEASURED.keys() - optional:
        assert f"{_name(folder)}: {name} (" in text
        assert f"{LOINC}|{MEASURED[name][0]}" in text
    assert "look-back" in text


@pytest.mark.parametrize("end", [0, 1], ids=["lowest", "highest"])
@pytest.mark.parametrize("model", Road.models.names())
def test_the_ends_of_what_is_accepted_give_a_finite_result(model: str, end: int) -> None:
    package = Road.runner.run(Road.models.champion(model))
    given: dict[str, tuple[str, Any]] = {}
    for feature in package.features.feature:
        bounds = [b for b in (feature.plausible, feature.population) if b]
        if bounds:
            ends = (max(b[0] for b in bounds), min(b[1] for b in bounds))
            given[feature.name] = ("valueDecimal", ends[end])
        elif feature.kind == "choice":
            given[feature.name] = ("valueCode", list(feature.choices)[-end])
        else:
            given[feature.name] = ("valueBoolean", bool(end))
    asked = parameters(model=model, override=given)
    population = package.features.population
    sex = population.sexes[0] if population and population.sexes else "male"
    found = _outputs(predict(Chart(sex).resources, asked))
    assert found and all(value.is_finite() for value in found.values())
