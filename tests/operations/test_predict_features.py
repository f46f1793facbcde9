"""Features told one by one, and the kinds that shipped models do not use."""

from __future__ import annotations

import copy
import dataclasses
import json
import tomllib
from decimal import Decimal
from typing import Any

import jsonschema
import msgspec
import pytest
from predicting import (
    LOINC,
    NOW,
    Chart,
    Road,
    World,
    indexes,
    of_type,
    parameters,
    predict,
)

from fhir_server.access.session import Session
from fhir_server.model.problem import Unprocessable
from operations.models.casing import comparable
from operations.models.computed import read
from operations.models.evidence import Moment, collect, matches
from operations.models.explain import Explained, explain_features
from operations.models.kinds import Gap, Row, Scene
from operations.models.manifest import Concept, Features, Population
from operations.models.package import ModelPackage, PackageError, _check_expressions
from operations.models.record import BundleRecord
from operations.models.registry import SHIPPED, Version
from operations.models.session_record import SessionRecord

pytestmark = pytest.mark.usefixtures("each_store")

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
        items = Road.runner.run(reader.observations({((system, code),): 2**62})) or []
        return [item.resource["id"] for item in items]

    assert found(other, "GLU") == found(other, "glu") == ["o0"]
    assert found(cased, "GLU") == [] and found(cased, "gLU") == ["o1"]
    assert comparable((other, "GLU")) != comparable((cased, "GLU"))


def package(text: str) -> ModelPackage:
    """CKD-EPI with other features."""
    plain = Road.models.versions["ckd-epi-2021-1.0.0"].package
    whole = text + '\n[[output]]\nname = "egfr"\ntitle = "x"\nunit = "1"\n'
    data = tomllib.loads(whole, parse_float=Decimal)
    schema = json.loads((SHIPPED / "features.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(data)
    features = msgspec.convert(data, Features)
    _check_expressions(features)
    return dataclasses.replace(plain, features=features)


def value_of(text: str, resources: list[dict[str, Any]]) -> Row | Gap:
    """Of one feature, read through a session and out of a Bundle alike."""
    one = package(text)
    (feature,) = one.features.feature
    entries = [{"resource": r} for r in copy.deepcopy(resources)]
    bundle = BundleRecord({"resourceType": "Bundle", "entry": entries})
    stored = SessionRecord(World(resources).session, "p", indexes)
    found = []
    for reader in (stored, bundle):
        evidence = Road.runner.run(collect(reader, [one], Moment.of(NOW)))
        found.append(read(feature, Scene(evidence, Moment.of(NOW), one.concepts)))
    first, second = found
    if isinstance(first, Gap) or isinstance(second, Gap):
        assert isinstance(first, Gap) and isinstance(second, Gap)
        assert first.code == second.code
        return first
    assert first.value == second.value
    return first


WEIGHT = '[[feature]]\nname = "weight"\ntitle = "Weight"\nkind = "quantity"\nunit = "kg"\n'
WEIGHT += 'codes = [["http://loinc.org", "29463-7"]]\nlookback = "P1Y"\nplausible = [-10, 500]\n'


def weights() -> Chart:
    chart = Chart()
    for day, value in ((1, 80), (11, 79), (21, 78), (31, 77)):
        chart.measure("29463-7", value, "kg", f"2026-05-{day:02}")
    chart.measure("29463-7", 10, "kg", "2020-01-01")  # before the look-back
    return chart


@pytest.mark.parametrize(
    ("aggregate", "expected", "unit"),
    [
        ("newest", "77", "kg"),
        ("mean", "78.5", "kg"),
        ("min", "77", "kg"),
        ("max", "80", "kg"),
        ("count", "4", "1"),
        ("slope", "-0.1", "kg/d"),
    ],
)
def test_aggregates(aggregate: str, expected: str, unit: str) -> None:
    row = value_of(f'{WEIGHT}aggregate = "{aggregate}"\n', weights().resources)
    assert isinstance(row, Row)
    assert round(Decimal(row.value), 9) == Decimal(expected)
    assert row.feature.told_unit == unit
    assert len(row.items) == (1 if aggregate in ("newest", "min", "max") else 4)
    gap = value_of(f'{WEIGHT}aggregate = "{aggregate}"\n', Chart().resources)
    if aggregate == "count":
        assert isinstance(gap, Row) and gap.value == 0
    else:
        assert isinstance(gap, Gap) and gap.code == "required"


def test_a_slope_needs_two_times() -> None:
    chart = Chart()
    chart.measure("29463-7", 80, "kg")
    chart.measure("29463-7", 90, "kg")
    gap = value_of(f'{WEIGHT}aggregate = "slope"\n', chart.resources)
    assert isinstance(gap, Gap) and "two different times" in gap.reason


def by_path(resource: str, expression: str, more: str = "") -> str:
    head = '[[feature]]\nname = "f"\ntitle = "F"\nkind = "fhirpath"\n'
    return f"{head}resource = '{resource}'\nexpression = '''{expression}'''\n{more}"


def test_fhirpath_on_the_patient_and_on_other_types() -> None:
    chart = Chart()
    chart.patient["multipleBirthBoolean"] = True
    row = value_of(by_path("Patient", "multipleBirth.ofType(boolean)"), chart.resources)
    assert isinstance(row, Row) and row.value is True
    gap = value_of(by_path("Patient", "deceased.ofType(boolean)"), chart.resources)
    assert isinstance(gap, Gap) and gap.code == "required"
    assumed = value_of(by_path("Patient", "deceased.exists()"), chart.resources)
    assert isinstance(assumed, Row) and assumed.value is False
    allergy: dict[str, Any] = {
        "resourceType": "AllergyIntolerance",
        "id": "a",
        "patient": {"reference": "Patient/p"},
        "criticality": "high",
        "clinicalStatus": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                    "code": "active",
                }
            ]
        },
    }
    text = by_path("AllergyIntolerance", "criticality = 'high'", "absent = false\n")
    severe = value_of(text, [*chart.resources, allergy])
    assert isinstance(severe, Row) and severe.value is True
    assert severe.items[0].reference.startswith("AllergyIntolerance/a")
    none = value_of(text, chart.resources)
    assert isinstance(none, Row) and (none.value, none.origin) == (False, "assumed")
    choice = by_path("AllergyIntolerance", "criticality", "choices = { low = 0, high = 1 }\n")
    coded = value_of(choice, [*chart.resources, allergy])
    assert isinstance(coded, Row) and coded.value == "high"


def test_fhirpath_gives_quantities_in_the_unit_of_the_feature() -> None:
    text = by_path(
        "Observation",
        "value.ofType(Quantity)",
        'codes = [["http://loinc.org", "29463-7"]]\nunit = "g"\nlookback = "P1Y"\n'
        'aggregate = "max"\n',
    )
    row = value_of(text, weights().resources)
    assert isinstance(row, Row) and row.value == 80_000
    counted = by_path("Observation", "status = 'final'", 'aggregate = "count"\nlookback = "P1Y"\n')
    row = value_of(counted, weights().resources)
    assert isinstance(row, Row) and row.value == 4
    chart = Chart()
    chart.measure("29463-7", 80, "mm[Hg]")
    gap = value_of(text, chart.resources)
    assert isinstance(gap, Gap) and gap.code == "value"


BMI = """[[feature]]
name = "bmi"
title = "BMI"
kind = "quantity"
unit = "kg/m2"
codes = [["http://loinc.org", "39156-5"]]
lookback = "P1Y"
plausible = [8, 100]

[feature.compute]
expression = "%weight / (%height * %height)"

[[feature.compute.part]]
name = "weight"
title = "Weight"
kind = "quantity"
unit = "kg"
codes = [["http://loinc.org", "29463-7"]]
lookback = "P1Y"
plausible = [1, 500]

[[feature.compute.part]]
name = "height"
title = "Height"
kind = "quantity"
unit = "m"
codes = [["http://loinc.org", "8302-2"]]
lookback = "P5Y"
plausible = [0.3, 3]
"""


def test_what_is_not_recorded_is_computed_from_its_parts() -> None:
    chart = Chart()
    chart.measure("29463-7", 80, "kg")
    gap = value_of(BMI, chart.resources)
    assert isinstance(gap, Gap) and "cannot be computed: height: the record has none" in gap.reason
    chart.measure("8302-2", 200, "cm", "2024-01-01")
    row = value_of(BMI, chart.resources)
    assert isinstance(row, Row)
    assert (row.value, row.origin, row.date) == (20, "computed", "2024-01-01")
    assert "weight 80 kg, height 2 m" in row.how and len(row.items) == 2
    chart.measure("39156-5", 25, "kg/m2")
    recorded = value_of(BMI, chart.resources)
    assert isinstance(recorded, Row) and (recorded.value, recorded.origin) == (25, "record")


def test_expressions_that_are_none_do_not_load() -> None:
    for text in (by_path("Patient", "name.where("), by_path("Patient", "nofunction()")):
        with pytest.raises(PackageError, match="f: "):
            package(text)
    with pytest.raises(PackageError, match="does not use height"):
        package(BMI.replace("(%height * %height)", "4"))
    with pytest.raises(jsonschema.ValidationError):
        package(by_path("Binary", "data"))


def test_whom_a_model_is_for_is_said_beside_its_features() -> None:
    plain = Road.models.versions["ckd-epi-2021-1.0.0"].package
    models = copy.copy(Road.models)
    chart = Chart(sex="male", age=50)
    chart.measure("2160-0", 0.9, "mg/dL")
    for population, reason in (
        (Population(sexes=("female",)), "for female patients, not male"),
        (Population(ages=(60, 70)), "for ages 60 to 70"),
        (Population(ages=(40, 60), sexes=("male",)), ""),
    ):
        features = msgspec.structs.replace(plain.features, population=population)
        other = dataclasses.replace(plain, features=features)
        models.versions = {**Road.models.versions, plain.id: Version(other, verified=True)}
        asked = parameters(model="ckd-epi-2021")
        if reason:
            with pytest.raises(Unprocessable, match=reason):
                predict(chart.resources, asked, models=models)
        else:
            assert of_type(predict(chart.resources, asked, models=models), "Observation")


def test_outside_its_population_a_feature_may_warn() -> None:
    plain = Road.models.versions["score2-1.0.0"].package
    features = tuple(
        msgspec.structs.replace(f, population=(Decimal(100), Decimal(120)), outside="warn")
        if f.name == "sbp"
        else f
        for f in plain.features.feature
    )
    other = dataclasses.replace(
        plain, features=msgspec.structs.replace(plain.features, feature=features)
    )
    models = copy.copy(Road.models)
    models.versions = {**Road.models.versions, plain.id: Version(other, verified=True)}
    chart = Chart()
    chart.pressure(140)
    chart.smoking("266919005")
    chart.measure("2093-3", 5.5, "mmol/L")
    chart.measure("2085-9", 1.3, "mmol/L")
    bundle = predict(chart.resources, parameters(model="score2"), models=models)
    (risk,) = of_type(bundle, "RiskAssessment")
    assert any("outside the population of the model (100" in note["text"] for note in risk["note"])
