"""checks J: behaviours that the US Core test kit looks at, with an app's token."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.serving import Server
from tests.smart.flow import FHIR, FORM, App, Json, bearer, tokens_for

NOTES = "http://example.org/document-category"


@pytest.fixture
def app(clinic: Server) -> Json:
    return bearer(tokens_for(App(clinic), "launch/patient patient/*.rs"))


def ids(answer: Json) -> list[str]:
    return sorted(entry["resource"]["id"] for entry in answer.get("entry", ()))


def test_j01_capability_statement(clinic: Server) -> None:
    found = clinic.get("metadata").json()
    assert found["resourceType"] == "CapabilityStatement" and found["fhirVersion"] == "4.0.1"
    assert "json" in found["format"]


def test_j02_read_and_search(clinic: Server, app: Json) -> None:
    assert clinic.get("Patient/a", headers=app).json()["id"] == "a"
    query = {"patient": "a", "_count": "1"}
    got = clinic.get(f"Observation?{urlencode(query)}", headers=app).json()
    posted = clinic.send(
        "POST", f"{FHIR}/Observation/_search", headers=app | FORM, content=urlencode(query)
    ).json()
    assert got["total"] == posted["total"] == 2
    seen: list[str] = []
    page: Json | None = got
    while page is not None:
        seen += ids(page)
        links = {link["relation"]: link["url"] for link in page["link"]}
        page = clinic.get(links["next"], headers=app).json() if "next" in links else None
    assert sorted(seen) == ["laboratory-a", "vital-signs-a"]


def test_j03_forms_of_references_and_tokens(clinic: Server, app: Json) -> None:
    answers = [
        ids(clinic.get(f"Observation?patient={form}", headers=app).json())
        for form in ("a", "Patient/a", f"{FHIR}/Patient/a")
    ]
    assert answers[0] == answers[1] == answers[2] == ["laboratory-a", "vital-signs-a"]
    both = clinic.get("Observation?category=laboratory,vital-signs", headers=app).json()
    assert ids(both) == answers[0]
    for prefix, found in (("gt", 1), ("ge", 1), ("lt", 0), ("le", 0)):
        answer = clinic.get(f"Patient?birthdate={prefix}1979-12-31", headers=app).json()
        assert len(ids(answer)) == found


def test_j04_references_resolve(clinic: Server, app: Json) -> None:
    found = clinic.get("Observation?_include=Observation:subject", headers=app).json()
    assert ids(found) == ["a", "laboratory-a", "vital-signs-a"]


def test_j01_docref(clinic: Server) -> None:
    """The documents of the patient in context, of the kind that is granted."""
    for id_ in ("a", "b"):
        for category in ("clinical-note", "letter"):
            document = {
                "resourceType": "DocumentReference",
                "id": f"{category}-{id_}",
                "status": "current",
                "type": {"text": category},
                "category": [{"coding": [{"system": NOTES, "code": category}]}],
                "subject": {"reference": f"Patient/{id_}"},
                "content": [{"attachment": {"url": "urn:x"}}],
            }
            place = f"DocumentReference/{category}-{id_}"
            system = clinic.bearer("system/*.cruds")
            assert clinic.put(place, document, headers=system).status_code == 201
    granted = f"patient/DocumentReference.rs?category={NOTES}|clinical-note"
    some = bearer(tokens_for(App(clinic), f"launch/patient patient/Patient.r {granted}"))
    whole = bearer(tokens_for(App(clinic), "launch/patient patient/*.rs"))
    other = bearer(tokens_for(App(clinic), "launch/patient patient/Observation.rs"))
    place = "DocumentReference/$docref?patient"
    assert ids(clinic.get(f"{place}=a", headers=whole).json()) == ["clinical-note-a", "letter-a"]
    assert ids(clinic.get(f"{place}=a", headers=some).json()) == ["clinical-note-a"]
    assert ids(clinic.get(f"{place}=b", headers=whole).json()) == []
    assert clinic.get(f"{place}=a", headers=other).status_code == 403
    assert clinic.get(f"{place}=a").status_code == 401
