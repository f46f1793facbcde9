"""$anonymize over HTTP, on every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import BACKENDS, Server, issue, served


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


def test_a_patient_and_the_refusals(server: Server) -> None:
    patient = server.create(
        {"resourceType": "Patient", "name": [{"family": "Garza"}], "birthDate": "1982-03-25"}
    )
    about = {"reference": f"Patient/{patient['id']}", "display": "Garza"}
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "Garza's pulse"}
    server.create(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": code,
            "subject": about,
            "valueQuantity": {"value": 71, "system": "http://unitsofmeasure.org", "code": "/min"},
        }
    )
    for answer in (
        server.get(f"Patient/{patient['id']}/$anonymize"),
        server.post(f"Patient/{patient['id']}/$anonymize", {"resourceType": "Parameters"}),
    ):
        assert answer.status_code == 200, answer.text
        body = answer.json()
        types = [entry["resource"]["resourceType"] for entry in body["entry"]]
        assert types == ["Patient", "Observation", "Parameters"]
        assert body["entry"][1]["resource"]["valueQuantity"]["value"] == 71
        for secret in ("Garza", patient["id"], "1982-"):
            assert secret not in answer.text
    unknown = server.get(f"Patient/{patient['id']}/$anonymize?profile=none")
    assert unknown.status_code == 404 and issue(unknown)
    absent = server.get("Patient/unused/$anonymize")
    assert absent.status_code == 404 and issue(absent)


def test_a_bundle_as_body(server: Server) -> None:
    entry = {"resource": {"resourceType": "Patient", "id": "p1", "name": [{"family": "Garza"}]}}
    body = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    for url in ("$anonymize", "Patient/$anonymize", "$anonymize?mode=review"):
        answer = server.post(url, body)
        assert answer.status_code == 200, answer.text
        assert [e["resource"]["resourceType"] for e in answer.json()["entry"]] == [
            "Patient",
            "Parameters",
        ]
        assert "Garza" not in answer.text


def test_bad_resources_give_an_outcome_and_no_data(server: Server) -> None:
    answer = server.post("Patient/$anonymize", {"resourceType": "Patient", "active": "Garza"})
    assert answer.status_code == 422 and issue(answer)
    assert "Garza" not in answer.text
