"""Blurred counts and cleaning, apart from any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.config import Settings
from fhir_server.faces.research import refuse_singling
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden, Unprocessable
from fhir_server.store.opening import bank_settings
from operations.research.cleaning import Quality, Sieve, valid
from operations.research.counting import SPREAD, STICKY, Blur

BLUR = Blur(b"secret", 10)


def test_small_counts_are_withheld() -> None:
    assert [BLUR.told(count, "q") for count in range(10)] == [None] * 10
    assert all((BLUR.told(10, f"q{n}") or 0) >= 10 for n in range(50))
    assert BLUR.shown("count", "valueInteger", 3, "q")["_valueInteger"]["extension"]


def test_the_same_question_has_the_same_answer() -> None:
    assert {BLUR.told(100, "q") for _ in range(20)} == {BLUR.told(100, "q")}
    told = {BLUR.told(100, f"q{n}") for n in range(200)}
    [sticky] = {one for one in STICKY if told == {100 + noise + one for noise in SPREAD}}
    others = {Blur(bytes([n]), 10).told(100, "q") for n in range(250)}
    assert others == {100 + noise + one for noise in SPREAD for one in STICKY} and sticky


def test_questions_that_mean_the_same_do_not_average_to_the_count() -> None:
    for count in range(20, 60):
        told = [BLUR.told(count, f"q{n}") or 0 for n in range(500)]
        assert abs(sum(told) / len(told) - count) > 0.5


def test_two_cohorts_that_differ_by_one() -> None:
    """The difference of two blurred counts is often not that of the counts."""
    found = [
        (BLUR.told(101, f"with {n}") or 0) - (BLUR.told(100, f"without {n}") or 0)
        for n in range(300)
    ]
    assert len(set(found)) > 4 and found.count(1) < 150 and min(found) < 0


REFUSED = [
    ("identifier", "x"),
    ("_id", "a"),
    ("subject:Patient.identifier", "x"),
    ("_has:Observation:patient:_id", "x"),
    ("identifier:of-type", "x"),
    ("birthdate", "1950-01-02"),
    ("date", "ge2020-01-01"),
    ("date", "ge2020,le2021-03-04T10:00:00Z"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_singles_people_out_is_refused(name: str, value: str) -> None:
    with pytest.raises(Forbidden):
        refuse_singling([("gender", "male"), (name, value)])


def test_what_does_not_is_not() -> None:
    refuse_singling(
        [("birthdate", "lt1950"), ("date", "2020-03"), ("code", "http://loinc.org|1-8")]
    )


def test_where_the_bank_lies() -> None:
    url = "mongodb://a,b/record?replicaSet=r"
    there = bank_settings(Settings(store=url, data=Path("d"), search="http://e"))
    assert there.store == "mongodb://a,b/record_research?replicaSet=r" and there.search == ""
    for url, lies in (
        ("mongodb://u:p@a/record", "mongodb://u:p@a/record_research?authSource=record"),
        ("mongodb://u:p@a/r?tls=true", "mongodb://u:p@a/r_research?tls=true&authSource=r"),
        ("mongodb://u:p@a/r?authSource=b", "mongodb://u:p@a/r_research?authSource=b"),
        ("mongodb+srv://u:p@a/r", "mongodb+srv://u:p@a/r_research"),
    ):
        assert bank_settings(Settings(store=url)).store == lies
    assert bank_settings(Settings(data=Path("d"))).data == Path("d/research")


def fact(id_: str, **more: object) -> Json:
    return {"resourceType": "Observation", "id": id_, "status": "final", **more}


def test_the_sieve() -> None:
    sieve = Sieve()
    assert sieve.fault(fact("1", valueInteger=1)) == ""
    assert sieve.fault(fact("2", valueInteger=1, meta={"versionId": "3"})) == "duplicate"
    assert sieve.fault(fact("3", valueInteger=2)) == ""
    assert sieve.fault(fact("4") | {"status": "entered-in-error"}) == "entered-in-error"
    wrong = {"coding": [{"code": "entered-in-error"}]}
    condition = {"resourceType": "Condition", "id": "c", "verificationStatus": wrong}
    assert sieve.fault(condition) == "entered-in-error"
    twice = {"resourceType": "Specimen", "id": "s"}
    assert [sieve.fault(twice), sieve.fault(twice)] == ["", ""]


def test_what_is_not_valid_is_counted() -> None:
    quality = Quality()

    def validate(resource: Json) -> None:
        if resource["id"] == "bad":
            raise Unprocessable("no")

    kept = valid([fact("good"), fact("bad")], validate, quality)
    assert [one["id"] for one in kept] == ["good"]
    assert quality.to_json() == {
        "read": {},
        "loaded": {"Observation": 1},
        "left": {"invalid": {"Observation": 1}},
    }
