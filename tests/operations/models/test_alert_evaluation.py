"""What alarms would have been: alerts, how many were right, how early; expected values by hand."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from predicting import Road, World, indexes

from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.problem import NotFound, Unprocessable
from operations.models.alerts.evaluating import evaluate, filed, stored
from operations.models.alerts.replay import Stay
from operations.models.alerts.report import Evaluation
from operations.models.alerts.scoring import HOUR, Share, alerts, quartiles, scored
from operations.models.alerts.spec import Alarm, Spec, read_spec
from operations.models.record import RecordReader
from operations.models.registry import SHIPPED

SHIPPED_SPEC = (SHIPPED / "news2_trend" / "alerts.toml").read_text(encoding="utf-8")
PAGE = Path(__file__).resolve().parents[3] / "ig" / "pagecontent" / "early-warning.md"
Json = dict[str, Any]
DAY = "2026-03-0"
CODES = {"9279-1": "/min", "59408-5": "%", "8480-6": "mm[Hg]", "8867-4": "/min", "8310-5": "Cel"}
USUAL = {"9279-1": 16, "59408-5": 97, "8480-6": 120, "8867-4": 75, "8310-5": 37}


def spec(**changes: Any) -> Spec:
    """Totals of NEWS2 and with trend; transfer to the ward's intensive care; silent for 8 hours."""
    text = SHIPPED_SPEC.replace("quiet = 15", "quiet = 0")
    for old, new in changes.pop("replaced", {}).items():
        assert old in text
        text = text.replace(old, new)
    return read_spec(text)


def test_an_alarm_is_silent_after_an_alert() -> None:
    said = [(0, 5.0), (HOUR, 9.0), (7 * HOUR, 5.0), (8 * HOUR, 4.9), (9 * HOUR, 5.0)]
    assert alerts(said, 5, 8 * HOUR) == [0, 9 * HOUR]
    assert alerts(said, 5, 0) == [0, HOUR, 7 * HOUR, 9 * HOUR]
    assert alerts(said, 10, 0) == []


def test_quartiles() -> None:
    assert quartiles([]) is None
    assert quartiles([4.0]) == (4, 4, 4)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2, 3, 4)
    assert quartiles([0.0, 10.0]) == (2.5, 5, 7.5)


def _stay(hours: int, event: int | None, values: dict[int, float]) -> Stay:
    said = tuple((at * HOUR, {"m": {"x": value}}) for at, value in values.items())
    end = event * HOUR if event else hours * HOUR
    return Stay("p", 0, end, (end, "icu") if event else None, said)


def test_what_is_counted() -> None:
    """Warned 20 h before, warned too early (30 h), not warned, false alarm, calm: 12 days."""
    stays = [
        _stay(0, 48, {10: 1, 28: 6, 30: 9, 40: 6}),  # alerts at 28 and 40, both right
        _stay(0, 48, {18: 7, 20: 8}),  # an alert at 18 only
        _stay(0, 48, {40: 2}),
        _stay(72, None, {5: 5}),
        _stay(72, None, {5: 4.5}),
    ]
    found = scored(spec(), Alarm("x", "m", ("x",), (5,)), 5, stays)
    assert (found.alerts, found.days, found.per_day) == (4, 12, pytest.approx(1 / 3))
    assert (found.right, found.warned, found.calm) == (Share(2, 4), Share(1, 3), Share(1, 2))
    assert found.leads == (20,)
    nobody = scored(spec(), Alarm("x", "other", ("x",), (5,)), 5, stays)
    assert nobody.alerts == 0 and nobody.right.value is None


def ward(name: str, rates: list[float], icu: int | None = None, **encounter: Any) -> list[Json]:
    """A patient whose respiratory rate is so every 4 hours from midnight; moved at that hour."""
    subject = {"reference": f"Patient/{name}"}
    act = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    classes = [{"class": {"system": act, "code": "IMP"}, "period": {"start": f"{DAY}1T00:00:00Z"}}]
    if icu is not None:
        moved = f"{DAY}{1 + icu // 24}T{icu % 24:02}:00:00Z"
        icu_class = {"system": act, "code": "ACUTE", "display": "ICU"}
        classes.append({"class": icu_class, "period": {"start": moved}})
    stay = {
        "resourceType": "Encounter",
        "id": f"{name}-stay",
        "status": "finished",
        "class": {"system": act, "code": "IMP"},
        "subject": subject,
        "period": {"start": f"{DAY}1T00:00:00Z", "end": f"{DAY}3T00:00:00Z"},
        "classHistory": classes,
    }
    alert = {"coding": [{"system": "http://snomed.info/sct", "code": "248234008"}]}
    found: list[Json] = [
        {"resourceType": "Patient", "id": name, "birthDate": "1960-01-01", "gender": "male"},
        {**stay, **encounter},
    ]
    for place, rate in enumerate(rates):
        at = f"{DAY}{1 + place // 6}T{place % 6 * 4:02}:00:00Z"
        base = {"resourceType": "Observation", "status": "final", "subject": subject}
        for code, value in {**USUAL, "9279-1": rate}.items():
            quantity = {"value": value, "system": "http://unitsofmeasure.org", "code": CODES[code]}
            coded = {"coding": [{"system": "http://loinc.org", "code": code}]}
            one = {"id": f"{name}-{code}-{place}", "effectiveDateTime": at, "code": coded}
            found.append({**base, **one, "valueQuantity": quantity})
        coded = {"coding": [{"system": "http://loinc.org", "code": "67775-7"}]}
        one = {"id": f"{name}-alert-{place}", "effectiveDateTime": at, "code": coded}
        found.append({**base, **one, "valueCodeableConcept": alert})
    return found


def run(given: Spec, readers: AsyncIterator[RecordReader]) -> Evaluation:
    return Road.runner.run(evaluate(given, Road.models, readers))


WORSE = [16, 17, 18, 19, 20, 21, 22, 23, 24, 24, 24, 25]
"""One more every 4 hours."""


def test_a_trend_warns_before_the_score_does() -> None:
    one = "thresholds = [3, 4, 5, 6, 7, 8, 9]"
    given = spec(replaced={one: "thresholds = [2]"})
    found = run(given, filed([*ward("a", WORSE, 34), *ward("b", [16] * 12)]))
    assert (len(found.stays), dict(found.events), found.silent) == (2, {"icu": 1}, 0)
    assert found.days == pytest.approx((34 + 48) / 24, abs=1e-3)
    rows = {row.alarm.title: row for row in found.rows if row.threshold == 2}
    trend, plain = rows["NEWS2 with trend, total"], rows["NEWS2"]
    assert trend.warned == plain.warned == Share(1, 1)
    # At 12 hours 19, rising by 1.5 in six hours: 20.5, charted as 21; NEWS2 at 20 hours, with 21.
    assert (trend.leads, plain.leads) == ((22,), (14,))
    assert (trend.alerts, plain.alerts) == (3, 2)
    assert trend.calm == plain.calm == Share(1, 1)


def test_what_comes_after_the_outcome_is_not_looked_at() -> None:
    """Nor what is later than the moment: the same first half gives the same answers."""
    whole = run(spec(), filed(ward("a", WORSE, 24)))
    half = run(spec(), filed(ward("a", WORSE[:6], 24)))
    assert whole.stays[0].said == half.stays[0].said
    assert len(whole.stays[0].said) == 6
    assert whole.stays[0].end == parse_instant(f"{DAY}2T00:00:00Z")


def test_outcomes_are_those_of_the_specification() -> None:
    dead = ward("a", WORSE)
    dead[0]["deceasedDateTime"] = f"{DAY}2T12:00:00Z"
    assert dict(run(spec(), filed(dead)).events) == {"death": 1}
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/a"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "A41.9"}]},
        "onsetDateTime": f"{DAY}1T20:00:00Z",
    }
    assert dict(run(spec(), filed([*dead, condition])).events) == {"sepsis": 1}
    refuted = {**condition, "verificationStatus": {"coding": [{"code": "refuted"}]}}
    assert dict(run(spec(), filed([*dead, refuted])).events) == {"death": 1}
    other = {**condition, "code": {"coding": [{"code": "A41.9", "system": "http://x.example"}]}}
    assert dict(run(spec(), filed([*dead, other])).events) == {"death": 1}


def test_what_is_left_out_is_told() -> None:
    child = ward("c", WORSE)
    child[0]["birthDate"] = "2020-01-01"
    visit = ward("v", WORSE, **{"class": {"code": "AMB"}})
    planned = ward("w", WORSE, status="planned")
    found = run(spec(), filed([*child, *visit, *planned, *ward("d", WORSE)]))
    assert (len(found.stays), found.silent) == (1, 1)
    assert found.skipped == {"news2-trend: age": 12}
    assert "Left out: 1 stays" in found.text() and "age (12)" in found.text()


def test_values_that_follow_closely_are_one_moment() -> None:
    chart = ward("a", WORSE)
    for one in chart:
        if one["id"].startswith("a-8867-4"):
            one["effectiveDateTime"] = one["effectiveDateTime"].replace(":00:00Z", ":10:00Z")
    assert len(run(spec(), filed(copy.deepcopy(chart))).stays[0].said) == 23
    close = spec(replaced={"quiet = 0": "quiet = 15"})
    assert len(run(close, filed(chart)).stays[0].said) == 12


def test_a_store_and_files_give_the_same() -> None:
    resources = [*ward("a", WORSE, 40), *ward("b", [16] * 12), *ward("v", [30], status="planned")]
    world = World(resources)
    found = run(spec(), stored(spec(), world.system, indexes))
    assert found.to_json() == run(spec(), filed(resources)).to_json()
    assert found.to_json()["events"] == {"icu": 1}


REFUSED = [
    ("horizon = 24", "horizon = 0", "horizon is at least 1"),
    ("horizon = 24", 'horizon = "a day"', "horizon"),
    ('name = "death"', 'named = "death"', "named"),
    ('time = "deceased.ofType(dateTime)"', 'time = "deceased.("', "specification"),
    ('resource = "Patient"', 'resource = "Practitioner"', "resource"),
    ('outputs = ["news2"]', "outputs = []", "outputs and thresholds"),
    ('outputs = ["news2"]', 'outputs = ["score"]', "no output score"),
    ('time = "deceased.ofType(dateTime)"', 'time = "id"', "outcome death"),
]


@pytest.mark.parametrize(("old", "new", "reason"), REFUSED)
def test_a_specification_that_cannot_be_used(old: str, new: str, reason: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        run(spec(replaced={old: new}), filed(ward("a", WORSE)))
    assert reason in "\n".join(issue.diagnostics for issue in caught.value.issues)
    with pytest.raises(NotFound):
        run(spec(replaced={'model = "news2-trend"': 'model = "nobody"'}), filed([]))


def _clinosim(shared: Path) -> Iterator[Json]:
    """What is about patients who were in hospital: the others have no stay, and are most."""
    folder = shared / "clinosim" / "us-p400-seed7"

    def lines(name: str) -> list[bytes]:
        with gzip.open(folder / f"{name}.ndjson.gz", "rb") as file:
            return file.readlines()

    encounters = [loads(line) for line in lines("Encounter")]
    stays = [one for one in encounters if one["class"]["code"] == "IMP"]
    inpatients = {one["subject"]["reference"].encode() for one in stays}
    yield from (one for one in encounters if one["subject"]["reference"].encode() in inpatients)
    yield from map(loads, lines("Patient"))
    for line in [*lines("Condition"), *lines("Observation")]:
        if inpatients.intersection(re.findall(rb"Patient/[\w-]+", line)):
            yield loads(line)


def test_the_table_of_the_guide_is_what_simulated_inpatients_give(shared: Path) -> None:
    """``vehr model evaluate-alerts --ndjson clinosim/us-p400-seed7`` prints it."""
    found = run(read_spec(SHIPPED_SPEC), filed(_clinosim(shared)))
    told = PAGE.read_text(encoding="utf-8")
    shown = told.split("<!-- evaluation -->\n")[1].split("\n<!-- /evaluation -->")[0]
    assert shown == found.text()
    assert json.dumps(found.to_json())
