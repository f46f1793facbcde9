"""$validate (67): https://hl7.org/fhir/R4/resource-operation-validate.html"""

from __future__ import annotations

import pytest

from tests.serving import Server

BAD = {"resourceType": "Patient", "gender": "blue", "birthDate": "2024-02-30"}
GOOD = {"resourceType": "Patient", "gender": "female"}
VITALS = "http://hl7.org/fhir/StructureDefinition/vitalsigns"
PULSE = {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}


def test_c67_invalid_input_is_an_answer_and_the_verdict_of_a_write(server: Server) -> None:
    judged = server.post("Patient/$validate", BAD)
    assert judged.status_code == 200
    assert judged.json()["resourceType"] == "OperationOutcome"
    written = server.post("Patient", BAD)
    assert written.status_code == 422
    assert written.json()["issue"] == judged.json()["issue"]
    sound = server.post("Patient/$validate", GOOD)
    assert sound.status_code == 200
    assert {one["severity"] for one in sound.json()["issue"]} == {"information"}
    assert server.post("Patient", GOOD).status_code == 201


@pytest.mark.parametrize("place", ["$validate", "Observation/$validate"])
def test_c67_mode_and_profile(server: Server, place: str) -> None:
    query = f"{place}?mode=profile&profile={VITALS}"
    found = server.post(query, PULSE).json()["issue"]
    assert ["Observation.category"] in [one["expression"] for one in found]
    assert server.post(f"{place}?mode=profile", PULSE).status_code == 400
    assert server.post(f"{place}?mode=none", PULSE).status_code == 400


def test_c67_entries_of_a_bundle(server: Server) -> None:
    entries = [{"resource": GOOD}, {"resource": BAD}]
    body = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    found = server.post("Bundle/$validate", body).json()["issue"]
    assert {one["expression"][0] for one in found} == {
        "Bundle.entry[1].resource.gender",
        "Bundle.entry[1].resource.birthDate",
    }


def test_c67_an_instance_by_get_and_by_post(server: Server) -> None:
    stored = server.create(PULSE)
    where = f"Observation/{stored['id']}/$validate?profile={VITALS}"
    by_get = server.get(where).json()
    assert by_get["issue"][0]["severity"] == "error"
    assert server.post(where, stored).json() == by_get
