"""``:below`` and ``:above`` of references, along ``partOf``.

https://hl7.org/fhir/R4/search.html#recursive
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.interactions import lineage
from fhir_server.search.lineage import lineages
from tests.serving import Server, served

from .searching import Both, Json, both


def place(id: str, part_of: str = "") -> Json:
    inside = {"partOf": {"reference": f"Location/{part_of}"}} if part_of else {}
    return {"resourceType": "Location", "id": id, **inside}


def done(id: str, at: str) -> Json:
    return {"resourceType": "Procedure", "id": id, "status": "completed",
            "subject": {"display": "x"}, "location": {"reference": at}}  # fmt: skip


# hospital > wing > ward > bed, wing > hall; a circle of two; and one whose whole is not stored.
RECORD: list[Json] = [
    place("hospital"), place("wing", "hospital"), place("ward", "wing"), place("bed", "ward"),
    place("hall", "wing"), place("this", "that"), place("that", "this"), place("lost", "gone"),
    {"resourceType": "Organization", "id": "trust", "name": "Trust"},
    {"resourceType": "Organization", "id": "clinic", "name": "Clinic",
     "partOf": {"reference": "Organization/trust"}},
    {"resourceType": "Patient", "id": "p", "managingOrganization":
     {"reference": "Organization/clinic"}},
    *(done(f"at-{id}", f"Location/{id}") for id in
      ("hospital", "wing", "ward", "bed", "hall", "this", "that", "lost", "gone")),
]  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("lineage")) as record:
        record.put(*RECORD)
        yield record


ROWS: list[tuple[str, set[str]]] = [
    ("Procedure?location:below=Location/wing", {"at-wing", "at-ward", "at-bed", "at-hall"}),
    ("Procedure?location:below=wing", {"at-wing", "at-ward", "at-bed", "at-hall"}),
    ("Procedure?location:below=Location/bed", {"at-bed"}),
    ("Procedure?location:above=Location/bed", {"at-bed", "at-ward", "at-wing", "at-hospital"}),
    ("Procedure?location:above=Location/hospital", {"at-hospital"}),
    ("Procedure?location:below=this", {"at-this", "at-that"}),
    ("Procedure?location:above=this", {"at-this", "at-that"}),
    ("Procedure?location:below=gone", {"at-gone"}),
    ("Procedure?location:above=lost", {"at-lost"}),
    ("Procedure?location:below=none", set()),
    ("Procedure?location:below=ward,hall", {"at-ward", "at-bed", "at-hall"}),
    ("Procedure?location:below=wing&location:above=bed", {"at-wing", "at-ward", "at-bed"}),
    ("Location?partof:below=wing", {"ward", "hall", "bed"}),
    ("Location?partof:above=ward", {"wing", "ward", "bed", "hall"}),
    ("Patient?organization:below=Organization/trust", {"p"}),
    ("Patient?organization:above=Organization/trust", set()),
    ("Location?_has:Procedure:location:location:below=hall", {"hall"}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), ROWS)
def test_c42_c48_lineages(record: Both, query: str, expected: set[str]) -> None:
    assert record.found(query) == expected
    assert record.bundle(f"{query}&_summary=count")["total"] == len(expected)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Procedure?subject:below=Patient/p", ":below"),
        ("Procedure?location:above=Patient/p", "location"),
        ("Procedure?location:below=http://example.org/Location/wing", "location"),
        ("QuestionnaireResponse?questionnaire:above=http://example.org/q", ":above"),
    ],
)
def test_c42_what_has_no_lineage_is_refused(record: Both, query: str, named: str) -> None:
    record.refused(query, named)


def test_c42_a_lineage_has_a_limit(record: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST", 3)
    record.refused("Procedure?location:below=hospital", "more than 3")
    assert record.found("Procedure?location:below=ward") == {"at-ward", "at-bed"}


def test_the_types_that_have_one() -> None:
    expected = {"CarePlan", "Encounter", "Location", "Organization", "ResearchStudy", "Task"}
    assert set(lineages()) == expected


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Server]:
    with served("sqlite", tmp_path, open_=False) as server:
        headers = server.bearer("system/*.cruds")
        for resource in RECORD:
            id = f"{resource['resourceType']}/{resource['id']}"
            assert server.put(id, resource, headers=headers).is_success
        yield server


def test_what_is_hidden_ends_a_line(secured: Server) -> None:
    """As if it were not there: neither by scope nor in conditions of writes."""
    query = "Procedure?location:below=Location/wing&_elements=id"
    some = "system/Procedure.rs system/Location.rs?_id=wing,hall,bed"
    found = secured.get(query, headers=secured.bearer(some, client="some")).json()
    assert {e["resource"]["id"] for e in found["entry"]} == {"at-wing", "at-hall"}
    none = secured.bearer("system/Procedure.rs", client="none")
    plain = secured.get("Procedure?location=Location/wing", headers=none).json()["total"]
    assert secured.get(query, headers=none).json()["total"] == plain <= 1
    scope = "system/Procedure.rs?location:below=Location/wing"
    refused = secured.get("Procedure", headers=secured.bearer(scope, client="scope"))
    assert not refused.is_success
    condition = secured.delete(
        "Procedure?location:below=wing", headers=secured.bearer("system/*.cruds")
    )
    assert condition.status_code == 400 and "searches only" in condition.text
