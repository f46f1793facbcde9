"""_include of references that name a version: https://hl7.org/fhir/R4/search.html#include"""

from __future__ import annotations

from tests.serving import Json, Server


def observation(id_: str, subject: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": subject},
    }


def included(server: Server, query: str) -> list[tuple[str, str]]:
    """(id, version) of what was included."""
    entries = server.get(f"Observation?{query}&_include=Observation:subject").json()["entry"]
    return [
        (e["resource"]["id"], e["resource"]["meta"]["versionId"])
        for e in entries
        if e["search"]["mode"] == "include"
    ]


def test_the_version_that_a_reference_names_is_included(server: Server) -> None:
    for active in (True, False, True):
        patient = {"resourceType": "Patient", "id": "p", "active": active}
        assert server.put("Patient/p", patient).status_code in (200, 201)
    for id_, subject in (
        ("first", "Patient/p/_history/1"),
        ("second", "Patient/p/_history/2"),
        ("current", "Patient/p"),
        ("none", "Patient/p/_history/9"),
    ):
        assert server.put(f"Observation/{id_}", observation(id_, subject)).status_code == 201
    assert included(server, "_id=first") == [("p", "1")]
    assert included(server, "_id=second") == [("p", "2")]
    assert included(server, "_id=current") == [("p", "3")]
    assert included(server, "_id=none") == [("p", "3")]
    assert sorted(included(server, "_id=first,second")) == [("p", "1"), ("p", "2")]
    assert sorted(included(server, "_id=first,current")) == [("p", "1"), ("p", "3")]
