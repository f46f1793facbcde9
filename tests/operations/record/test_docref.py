"""DocumentReference/$docref: https://hl7.org/fhir/us/core/STU6.1/OperationDefinition-docref.html"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.serving import BACKENDS, BASE, Server, served

Json = dict[str, Any]
LOINC = "http://loinc.org"
CCD, NOTE = "34133-9", "11506-3"
PLACE = "DocumentReference/$docref"


def document(id_: str, code: str, date: str | None, **others: Any) -> Json:
    made: Json = {
        "resourceType": "DocumentReference",
        "id": id_,
        "status": "current",
        "type": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "content": [{"attachment": {"contentType": "text/plain", "data": "YQ=="}}],
    }
    return made | ({"date": date} if date else {}) | others


def during(start: str, end: str) -> Json:
    return {"period": {"start": start, "end": end}}


DOCUMENTS = [
    document("old", CCD, "2020-05-01T00:00:00Z", context=during("2019-01-01", "2019-12-31")),
    document("ccd", CCD, "2021-05-01T00:00:00Z"),
    document("note", NOTE, "2022-05-01T00:00:00Z", context=during("2018-03-01", "2018-03-02")),
    document("text", NOTE, "2018-05-01T00:00:00Z", meta={"profile": ["urn:x:profile|1"]}),
    document("undated", "x", None, type={"text": "a letter"}),
    document("gone", CCD, "2023-05-01T00:00:00Z", status="entered-in-error"),
    document("past", CCD, "2023-05-01T00:00:00Z", status="superseded"),
    document("other", CCD, "2023-05-01T00:00:00Z", subject={"reference": "Patient/q"}),
]


@pytest.fixture(scope="module", params=BACKENDS)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with served(request.param, tmp_path_factory.mktemp("docref")) as server:
        for id_ in ("p", "q"):
            server.put(f"Patient/{id_}", {"resourceType": "Patient", "id": id_})
        for row in DOCUMENTS:
            assert server.put(f"DocumentReference/{row['id']}", row).status_code == 201
        yield server


def shown(server: Server, answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    entries = bundle.get("entry", [])
    assert bundle["type"] == "searchset" and bundle["total"] == len(entries)
    assert {e["search"]["mode"] for e in entries} <= {"match"}
    assert all(e["fullUrl"].startswith(f"{BASE}/DocumentReference/") for e in entries)
    assert bundle["link"][0]["relation"] == "self"
    assert server.get(bundle["link"][0]["url"]).json() == bundle
    return [entry["resource"]["id"] for entry in entries]


def posted(server: Server, *parts: Json) -> Any:
    patient = {"name": "patient", "valueId": "p"}
    return server.post(PLACE, {"resourceType": "Parameters", "parameter": [patient, *parts]})


def coded(**coding: str) -> Json:
    return {"name": "type", "valueCoding": coding}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["note", "ccd", "undated"]),
        ("&type=http://loinc.org|34133-9", ["ccd"]),
        ("&type=34133-9&type=11506-3", ["note", "ccd"]),
        ("&type=http://loinc.org|", ["note", "ccd"]),
        ("&type=urn:other|34133-9", []),
        ("&on-demand=false", ["note", "ccd", "undated"]),
        ("&on-demand=true", []),
        ("&start=2019", ["ccd", "old"]),
        ("&end=2018", ["note", "text"]),
        ("&start=2018-03-02T12:00:00Z&end=2018-03-02T13:00:00Z", ["note"]),
        ("&start=2018-03-03&end=2018-04-30", []),
        ("&start=2018-05-01&end=2018-05-01&type=11506-3", ["text"]),
        ("&start=1900", ["note", "ccd", "old", "text"]),
        ("&profile=urn:x:profile", ["text"]),
        ("&profile=urn:x:profile|1&profile=urn:x:other", ["text"]),
        ("&profile=urn:x:profile|2", []),
    ],
)
def test_what_is_asked_for(filled: Server, query: str, found: Sequence[str]) -> None:
    assert shown(filled, filled.get(f"{PLACE}?patient=p{query}")) == found


def test_no_such_patient_is_an_empty_bundle(filled: Server) -> None:
    assert shown(filled, filled.get(f"{PLACE}?patient=nobody")) == []


def test_posted_as_parameters(filled: Server) -> None:
    ccd, note = coded(system=LOINC, code=CCD), coded(code=NOTE)
    assert shown(filled, posted(filled, ccd)) == ["ccd"]
    assert shown(filled, posted(filled, ccd, note)) == ["note", "ccd"]
    since = {"name": "start", "valueDateTime": "2019-06-01T00:00:00+02:00"}
    assert shown(filled, posted(filled, ccd, since)) == ["ccd", "old"]
    demand = {"name": "on-demand", "valueBoolean": True}
    assert shown(filled, posted(filled, demand)) == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "patient=p&patient=q",
        "patient=Patient/p",
        "patient=p&start=yesterday",
        "patient=p&start=2019-01-01T00:00",
        "patient=p&start=2020&end=2019",
        "patient=p&start=2020&start=2021",
        "patient=p&type=",
        "patient=p&type=|",
        "patient=p&on-demand=yes",
        "patient=p&_count=1",
        "patient=p&category=x",
        "patient=p&profile=a b",
    ],
)
def test_refused(filled: Server, query: str) -> None:
    answer = filled.get(f"{PLACE}?{query}")
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_what_is_posted_in_another_form_is_refused(filled: Server) -> None:
    assert posted(filled, {"name": "type", "valueString": CCD}).status_code == 422
    assert posted(filled, {"name": "type", "valueCoding": {"display": "x"}}).status_code == 422
    assert posted(filled, {"name": "kind", "valueCode": "x"}).status_code == 400


def test_it_is_told_as_us_core_defines_it(filled: Server) -> None:
    rows = filled.get("metadata").json()["rest"][0]["resource"]
    (row,) = (one for one in rows if one["type"] == "DocumentReference")
    (told,) = (one for one in row["operation"] if one["name"] == "docref")
    assert told["definition"] == "http://hl7.org/fhir/us/core/OperationDefinition/docref"
    assert "34133-9" in told["documentation"] and "on demand" in told["documentation"]
    made = filled.get("OperationDefinition/docref").json()
    assert made["base"] == told["definition"]
    inputs = [(p["name"], p["type"], p["max"]) for p in made["parameter"] if p["use"] == "in"]
    assert inputs == [
        ("patient", "id", "1"),
        ("start", "dateTime", "1"),
        ("end", "dateTime", "1"),
        ("type", "Coding", "*"),
        ("on-demand", "boolean", "1"),
        ("profile", "canonical", "*"),
    ]
