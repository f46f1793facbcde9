"""A made-up cohort whose outcome follows from age and pressure by a known equation."""

from __future__ import annotations

import math
import random
from typing import Any

from operations.models.training.dataset import DataSet, Line

Json = dict[str, Any]
SPEC = """
name = "demo-risk"
version = "{version}"
title = "Infarction within two years"
intended_use = "Tests only."
population = "Made-up adults."
licence = "As this project."
limits = ["Made-up data: it says nothing about people."]
seed = 7
{more}
[[features.feature]]
name = "age"
title = "Age"
kind = "age"
unit = "a"
population = [18, 110]
reference = 50

[[features.feature]]
name = "sex"
title = "Sex"
kind = "choice"
path = "gender"
choices = {{ male = 0, female = 1 }}

[[features.feature]]
name = "sbp"
title = "Systolic blood pressure"
kind = "quantity"
codes = [["http://loinc.org", "8480-6"]]
unit = "mm[Hg]"
lookback = "P5Y"
plausible = [60, 270]
reference = 120

[[features.feature]]
name = "smoker"
title = "Smokes"
kind = "condition"
concept = "demo-smoking"
when = "ever"
absent = false

[features.concept.demo-smoking]
title = "Smoking"
icd10 = ["F17"]

[features.concept.demo-infarction]
title = "Myocardial infarction"
icd10 = ["I21"]

[index]
rule = "encounters"
which = "first"

[outcome]
name = "infarction"
title = "Myocardial infarction"
concept = "demo-infarction"
within = "P2Y"
observed_until = "2024-01-01"

[split]
at = "2020-01-01"

[pipeline]
kind = "{kind}"

[gate]
auroc = {auroc}
events = 10
samples = 100
slope = [0.3, 3.0]
intercept = [-1.5, 1.5]
brier_skill = -0.5
{gate}
"""
ICD, LOINC = "http://hl7.org/fhir/sid/icd-10", "http://loinc.org"


def spec(
    kind: str = "logistic",
    version: str = "1.0.0",
    auroc: float = 0.6,
    more: str = "",
    gate: str = "",
) -> str:
    return SPEC.format(kind=kind, version=version, auroc=auroc, more=more, gate=gate)


def chance(age: float, sbp: float, smoker: bool) -> float:
    return 1 / (1 + math.exp(-(-1.6 + 0.07 * (age - 60) + 0.03 * (sbp - 130) + smoker)))


def rows(count: int = 480, seed: int = 1) -> DataSet:
    """Two thirds of them to train with."""
    draw = random.Random(seed)
    lines = []
    for i in range(count):
        age, sbp, smoker = draw.randint(30, 90), round(draw.gauss(130, 15)), draw.random() < 0.2
        values = (float(age), float(draw.random() < 0.5), float(sbp), float(smoker))
        happened = draw.random() < chance(age, sbp, smoker)
        trains = i < count * 2 // 3
        at = "2017-06-01T00:00:00Z" if trains else "2021-06-01T00:00:00Z"
        sex = "female" if values[1] else "male"
        part = "train" if trains else "test"
        lines.append(Line(f"p{i}", at, part, values, happened, sex, age))  # type: ignore[arg-type]
    return DataSet(("age", "sex", "sbp", "smoker"), tuple(lines))


def record(count: int, seed: int = 3) -> list[Json]:
    """The resources of as many patients, half of them seen after the split."""
    draw = random.Random(seed)
    return [resource for i in range(count) for resource in _patient(i, i % 2 == 0, draw)]


def _patient(i: int, early: bool, draw: random.Random) -> list[Json]:
    age, sbp, smoker = draw.randint(30, 90), round(draw.gauss(130, 15)), draw.random() < 0.2
    year = 2016 if early else 2020
    about: Json = {"subject": {"reference": f"Patient/t{i}"}}
    person: Json = {"resourceType": "Patient", "id": f"t{i}", "birthDate": f"{year - age}-01-01"}
    person["gender"] = draw.choice(["male", "female"])
    visit = {"resourceType": "Encounter", "id": f"e{i}", "status": "finished", **about}
    visit |= {"class": {"code": "AMB"}, "period": {"start": f"{year}-06-01T10:00:00Z"}}
    seen: Json = {"resourceType": "Observation", "id": f"o{i}", "status": "final", **about}
    seen |= {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}}
    seen |= {"effectiveDateTime": f"{year}-05-01"}
    unit = {"unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
    seen |= {"valueQuantity": {"value": sbp, **unit}}
    later = {**seen, "id": f"l{i}", "effectiveDateTime": f"{year}-07-01"}
    later["valueQuantity"] = {"value": 250, **unit}  # of the future: must not be looked at
    found = [person, visit, seen, later]
    if smoker:
        found.append(_condition(f"s{i}", "F17.2", f"{year - 1}-01-01", about))
    if draw.random() < chance(age, sbp, smoker):
        found.append(_condition(f"c{i}", "I21.9", f"{year + 1}-03-01", about))
    return found


def _condition(id_: str, code: str, onset: str, about: Json) -> Json:
    coded = {"coding": [{"system": ICD, "code": code}]}
    return {"resourceType": "Condition", "id": id_, "code": coded, "onsetDateTime": onset, **about}
