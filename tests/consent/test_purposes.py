"""Purposes of use: what a request states, and what its job goes on with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consent.worlds import REASONS, SENSITIVITY, Json, consent, to
from tests.serving import Server, served


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Server]:
    """Of p1 and p2, p1 permits treatment and no research; p2 permits research."""
    with served("memory", tmp_path, open_=False) as server:
        server.headers = server.bearer("system/*.cruds")
        for id_ in ("p1", "p2"):
            server.put(f"Patient/{id_}", {"resourceType": "Patient", "id": id_})
        labels = [{"system": SENSITIVITY, "code": "HIV"}]
        server.put("Consent/c1", consent())
        research = {
            "type": "permit",
            "purpose": [{"system": REASONS, "code": "HRESCH"}],
            "provision": [{"type": "deny", "securityLabel": labels}],
        }
        server.put("Consent/c2", consent("c2", patient=to("Patient/p2"), provision=research))
        yield server


def patients(answer: Json) -> list[str]:
    return sorted(entry["resource"]["id"] for entry in answer.get("entry", ()))


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        ("", ["p1", "p2"]),
        ("TREAT", ["p1", "p2"]),
        ("HOPERAT", ["p1", "p2"]),
        ("HRESCH", ["p2"]),
        ("http://terminology.hl7.org/CodeSystem/v3-ActReason|CLINTRCH", ["p2"]),
        ("HMARKT", []),
    ],
)
def test_a_system_that_wants_data_for_something_else_asks_the_patients(
    hospital: Server, purpose: str, expected: list[str]
) -> None:
    headers = {**hospital.headers, **({"x-purpose-of-use": purpose} if purpose else {})}
    assert patients(hospital.get("Patient", headers=headers).json()) == expected


@pytest.mark.parametrize("purpose", ["NONE", "treat", "HRESCH,TREAT"])
def test_what_is_no_purpose_is_refused(hospital: Server, purpose: str) -> None:
    headers = {**hospital.headers, "x-purpose-of-use": purpose}
    assert hospital.get("Patient", headers=headers).status_code == 400


def test_a_job_goes_on_with_the_purpose_of_its_request(hospital: Server) -> None:
    headers = {**hospital.headers, "x-purpose-of-use": "HRESCH", "prefer": "respond-async"}
    begun = hospital.get("Patient", headers=headers)
    assert begun.status_code == 202, begun.text
    place = begun.headers["content-location"]
    for _ in range(200):
        found = hospital.get(place, headers={**hospital.headers, "x-purpose-of-use": "HRESCH"})
        if found.status_code != 202:
            break
        time.sleep(0.02)
    assert found.status_code == 200, found.text
    [entry] = found.json()["entry"]
    assert patients(entry["resource"]) == ["p2"]


def test_what_names_no_patient_is_not_given_away(hospital: Server) -> None:
    """Of whom a stored document, or a file, is, its type does not say: nobody has permitted it."""
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "weight"},
        "subject": to("Patient/p1"),
    }
    document = {
        "resourceType": "Bundle",
        "id": "doc",
        "type": "collection",
        "entry": [{"fullUrl": "urn:uuid:1", "resource": observation}],
    }
    hospital.put("Bundle/doc", document)
    file = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "eA=="}
    hospital.put("Binary/b", file | {"securityContext": to("Patient/p1")})
    research = {"headers": {**hospital.headers, "x-purpose-of-use": "HRESCH"}}
    for name in ("Bundle/doc", "Binary/b"):
        assert hospital.get(name).status_code == 200
        assert hospital.get(name, **research).status_code == 404
    assert hospital.get("Bundle", **research).json()["total"] == 0
