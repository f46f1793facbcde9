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
            *([] if "review" in url else ["Patient"]),
            "Parameters",
        ]
        assert "Garza" not in answer.text


def test_bad_resources_give_an_outcome_and_no_data(server: Server) -> None:
    for bad in (
        {"resourceType": "Patient", "active": "Garza"},
        {"resourceType": "Patient", "unheardOf": "Garza"},
        {"resourceType": "Patient", "name": [{"unheardOf": "Garza"}]},
        {"resourceType": "Patient", "name": [{}]},
    ):
        answer = server.post("Patient/$anonymize", bad)
        assert answer.status_code == 422 and issue(answer)["expression"][0].startswith("Patient")
        assert "Garza" not in answer.text
        entry = {"fullUrl": "urn:uuid:9d0f1d5e-2f6f-4b1c-8f2e-3c1d9a7b5e10", "resource": bad}
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
        part = {"name": "resource", "resource": bad}
        for body in (bundle, {"resourceType": "Parameters", "parameter": [part]}):
            answer = server.post("$anonymize", body)
            assert answer.status_code == 422 and "Garza" not in answer.text


def test_unknown_members_of_a_parameter_are_refused(server: Server) -> None:
    part = {"name": "profile", "valueCode": "safe-harbor", "unheardOf": 1}
    patient = {"name": "resource", "resource": {"resourceType": "Patient"}}
    body = {"resourceType": "Parameters", "parameter": [part, patient]}
    answer = server.post("$anonymize", body)
    assert answer.status_code == 422
    assert issue(answer)["expression"] == ["Parameters.parameter[0].unheardOf"]
