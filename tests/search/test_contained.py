"""Contained resources: https://hl7.org/fhir/R4/search.html#contained, #chaining"""

from __future__ import annotations

from typing import Any

import pytest

from .world import World

RX = "http://www.nlm.nih.gov/research/umls/rxnorm"

RXS = "MedicationRequest/"


def coded(code: str, text: str = "") -> dict[str, Any]:
    return {"coding": [{"system": RX, "code": code}]} | ({"text": text} if text else {})


def medication(id: str, code: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Medication", "id": id, "code": coded(code), **more}


def request(id: str, reference: str, *contained: Any, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": id,
        "status": "active",
        "subject": {"reference": "Patient/p"},
        "medicationReference": {"reference": reference},
        **({"contained": list(contained)} if contained else {}),
        **more,
    }


CONTAINED = World(
    medication("m", "1"),
    medication("m1", "3"),
    request("out", "Medication/m"),
    request("in", "#m1", medication("m1", "1", manufacturer={"reference": "#maker"}),
            {"resourceType": "Organization", "id": "maker", "name": "Łódź Farm"}),
    request("two", "#b", medication("a", "1"), medication("b", "2"), status="stopped"),
    request("far", "#c", medication("c", "4", manufacturer={"reference": "Organization/real"})),
    request("lost", "#none", medication("d", "1")),
    {"resourceType": "Organization", "id": "real", "name": "Real"},
    {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "#p"},
        "contained": [
            {"resourceType": "Patient", "id": "p", "name": [{"family": "Inner"}],
             "birthDate": "1980-02-03", "contact": [{"name": {"text": "Mother"}}]}
        ],
    },
    {"resourceType": "Patient", "id": "p", "name": [{"family": "Outer"}]},
)  # fmt: skip

CONTAINED_ROWS: list[tuple[str, list[str]]] = [
    ("MedicationRequest?medication.code=1", ["in", "out"]),
    ("MedicationRequest?medication.code=2", ["two"]),
    ("MedicationRequest?medication.code=3", []),
    (f"MedicationRequest?medication.code={RX}|1", ["in", "out"]),
    ("MedicationRequest?medication:Medication.code=1&status=active", ["in", "out"]),
    ("MedicationRequest?medication.code:not=1", ["far", "two"]),
    ("MedicationRequest?medication.code=1,2", ["in", "out", "two"]),
    ("MedicationRequest?medication.manufacturer.name=lodz", ["in"]),
    ("MedicationRequest?medication.manufacturer.name=real", ["far"]),
    ("MedicationRequest?medication.manufacturer:missing=false", ["far", "in"]),
    ("MedicationRequest?medication._id=m1", ["in"]),
    ("MedicationRequest?medication=Medication/m1", []),
    ("MedicationRequest?medication=m1", []),
    ("MedicationRequest?_filter=medication.code eq 2", ["two"]),
    ("Condition?patient.name=inner", ["c"]),
    ("Condition?subject.name=inner", ["c"]),
    ("Condition?subject:Patient.birthdate=1980", ["c"]),
    ("Condition?subject:Group.code=1", []),
    ("Condition?patient:missing=false", ["c"]),
    ("Condition?subject:missing=false", ["c"]),
    ("Medication?code=1", ["m"]),
    ("Medication?code=1&_contained=false", ["m"]),
    ("Medication?code=1&_contained=true", [RXS + i for i in ("in", "lost", "two")]),
    (
        "Medication?code=1&_contained=both",
        ["MedicationRequest/in", "MedicationRequest/lost", "MedicationRequest/two", "m"],
    ),
    ("Medication?code=3&_contained=both&_containedType=container", ["m1"]),
    ("Medication?code=1&code=2&_contained=true", []),
    ("Medication?code:not=1&_contained=true", ["MedicationRequest/far", "MedicationRequest/two"]),
    ("Medication?_contained=true", [RXS + i for i in ("far", "in", "lost", "two")]),
    ("Medication?_id=m1&_contained=true", ["MedicationRequest/in"]),
    ("Medication?manufacturer.name=real&_contained=true", ["MedicationRequest/far"]),
    ("Medication?manufacturer.name=lodz&_contained=true", ["MedicationRequest/in"]),
    (
        "Medication?_has:MedicationRequest:medication:status=active&_contained=true",
        ["MedicationRequest/far", "MedicationRequest/in"],
    ),
    ("Medication?_has:MedicationRequest:medication:status=stopped&_contained=true",
     ["MedicationRequest/two"]),
    ("Medication?_has:MedicationRequest:medication:status=active", ["m"]),
    ("Patient?name=inner", []),
    ("Patient?name=inner&_contained=true", ["Condition/c"]),
    ("Patient?birthdate=ge1980&_contained=true", ["Condition/c"]),
    ("Patient?_content=mother&_contained=true", ["Condition/c"]),
    ("Patient?_content=mother", []),
    ("Condition?_content=mother", ["c"]),
    ("Organization?name=lodz&_contained=both", ["MedicationRequest/in"]),
]  # fmt: skip


@pytest.mark.parametrize(("query", "ids"), CONTAINED_ROWS)
def test_contained(query: str, ids: list[str]) -> None:
    assert CONTAINED.search(query) == ids
