"""checks J: behaviours that the US Core test kit looks at, with an app's token."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from fhir_server.access.ties import EXTENSION
from tests.serving import Server
from tests.smart.flow import FHIR, FORM, App, Json, bearer, tokens_for

NOTES = "http://example.org/document-category"
TERMS = "http://terminology.hl7.org/CodeSystem"
TYPES = "http://hl7.org/fhir/resource-types"


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


def test_j03_what_spans_a_date_is_on_both_sides_of_it(clinic: Server, app: Json) -> None:
    """`ge` asks what overlaps the time above, `lt` what overlaps the time below, so both together
    may count more than the whole: by the periods that span the date, and by nothing else.
    https://hl7.org/fhir/R4/search.html#prefix"""
    system = clinic.bearer("system/*.cruds")
    template = clinic.get("Encounter/e-a", headers=system).json()
    periods = {"before": ("2020", "2021"), "across": ("2021", "2023"), "after": ("2023", "2024")}
    for id_, (start, end) in periods.items():
        row = template | {"id": id_, "period": {"start": f"{start}-03-03", "end": f"{end}-04-04"}}
        assert clinic.put(f"Encounter/{id_}", row, headers=system).status_code == 201
    for above, below in (("ge", "lt"), ("gt", "le")):
        later, sooner = (
            ids(clinic.get(f"Encounter?date={prefix}2022-05-05", headers=app).json())
            for prefix in (above, below)
        )
        assert (later, sooner) == (["across", "after"], ["across", "before"])
    started, ended = (
        ids(clinic.get(f"Encounter?date={prefix}2022-05-05", headers=app).json())
        for prefix in ("sa", "eb")
    )
    assert (started, ended) == (["after"], ["before"])


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


def source(id_: str, *targets: str) -> Json:
    return {
        "resourceType": "Provenance",
        "id": id_,
        "target": [{"reference": one} for one in targets],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"reference": "Practitioner/d"}}],
    }


def test_j04_revinclude_of_provenance(clinic: Server, app: Json) -> None:
    """What tells whence the record of a patient came is part of it; of others it is not."""
    system = clinic.bearer("system/*.cruds")
    for row in (
        source("a", "Observation/laboratory-a"),
        source("both", "Observation/laboratory-a", "Encounter/e-a"),
        source("c", "Observation/laboratory-c"),
        source("mixed", "Observation/laboratory-a", "Observation/laboratory-c"),
        source("beside", "Observation/laboratory-a", "Organization/x"),
    ):
        assert clinic.put(f"Provenance/{row['id']}", row, headers=system).status_code == 201
    found = clinic.get("Observation?_revinclude=Provenance:target", headers=app).json()
    assert ids(found) == ["a", "both", "laboratory-a", "vital-signs-a"]
    assert ids(clinic.get("Provenance", headers=app).json()) == ["a", "both"]
    for id_, status in (("a", 200), ("c", 404), ("mixed", 404), ("beside", 404)):
        assert clinic.get(f"Provenance/{id_}", headers=app).status_code == status
        assert clinic.get(f"Provenance/{id_}/_history/1", headers=app).status_code == status
        query = f"Provenance?_id={id_}"
        assert len(ids(clinic.get(query, headers=app).json())) == (status == 200)
    other = bearer(tokens_for(App(clinic), "launch/patient patient/Observation.rs"))
    found = clinic.get("Observation?_revinclude=Provenance:target", headers=other)
    assert found.status_code in (401, 403) or ids(found.json()) == ["laboratory-a", "vital-signs-a"]


def test_j04_provenance_of_others_is_not_written(clinic: Server) -> None:
    """A client does not say whose it is, and users do not change whence a record came."""
    system = clinic.bearer("system/*.cruds")
    tie = [{"url": EXTENSION, "valueReference": {"reference": "Patient/a"}}]
    forged = source("forged", "Observation/laboratory-c") | {"meta": {"extension": tie}}
    forged |= {"extension": tie}
    assert clinic.put("Provenance/forged", forged, headers=system).status_code == 201
    own = source("own", "Observation/laboratory-a")
    assert clinic.put("Provenance/own", own, headers=system).status_code == 201
    every = bearer(tokens_for(App(clinic), "launch/patient patient/*.cruds"))
    assert clinic.get("Provenance/forged", headers=every).status_code == 404
    shown = clinic.get("Provenance/own", headers=every).json()
    assert shown["meta"]["extension"] == tie
    assert {**shown, "meta": None} == {**own, "meta": None}
    assert clinic.put("Provenance/own", shown | own, headers=every).status_code in (403, 404, 405)
    assert clinic.delete("Provenance/own", headers=every).status_code in (204, 403, 404)
    assert clinic.get("Provenance/own", headers=every).status_code == 200
    refused = clinic.post("Provenance", own, headers=every)
    assert refused.status_code in (403, 404, 422)
    moved = clinic.put("Provenance/own", source("own", "Observation/laboratory-c"), headers=system)
    assert moved.json()["meta"]["extension"][0]["valueReference"]["reference"] == "Patient/c"
    assert clinic.get("Provenance/own", headers=every).status_code == 404


def test_j04_what_a_consent_may_keep_is_not_told_by_its_provenance(clinic: Server) -> None:
    """A tied Provenance has the labels of its target, but not its codes: who recorded a consent
    shows none to others; the patient reads them."""
    system = clinic.bearer("system/*.cruds")
    labelled = clinic.get("Observation/laboratory-b", headers=system).json()
    secret = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}
    marked = labelled | {"id": "secret-b", "meta": {"security": [secret]}}
    assert clinic.put("Observation/secret-b", marked, headers=system).status_code == 201
    for row in (source("lab", "Observation/laboratory-b"), source("sec", "Observation/secret-b")):
        assert clinic.put(f"Provenance/{row['id']}", row, headers=system).status_code == 201
    scope = "launch/patient patient/*.rs"
    doctor = bearer(tokens_for(App(clinic), scope, patient="b"))
    patient = bearer(tokens_for(App(clinic), scope, user="pat"))
    assert ids(clinic.get("Provenance", headers=doctor).json()) == ["lab"]
    before = ids(clinic.get("Provenance", headers=patient).json())
    consent = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": f"{TERMS}/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/b"},
        "policyRule": {"text": "own"},
        "provision": {
            "type": "permit",
            "provision": [{"type": "deny", "class": [{"system": TYPES, "code": "Encounter"}]}],
        },
    }
    assert clinic.post("Consent", consent, headers=system).status_code == 201
    assert clinic.get("Observation/laboratory-b", headers=doctor).status_code == 200
    assert clinic.get("Provenance/lab", headers=doctor).status_code == 404
    assert ids(clinic.get("Provenance", headers=doctor).json()) == []
    assert set(before) <= set(ids(clinic.get("Provenance", headers=patient).json()))
    assert "lab" in before


def test_j04_a_provenance_of_much(clinic: Server) -> None:
    """Of more than is looked up at a time; what does not belong to the record is found among it."""
    system = clinic.bearer("system/*.cruds")
    row = clinic.get("Observation/laboratory-a", headers=system).json()
    entries = [
        {
            "resource": row | {"id": f"m{i}"},
            "request": {"method": "PUT", "url": f"Observation/m{i}"},
        }
        for i in range(60)
    ]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    assert clinic.post("", batch, headers=system).status_code == 200
    targets = [f"Observation/m{i}" for i in range(60)]
    for id_, more in (("much", []), ("more", ["Observation/laboratory-c"])):
        answer = clinic.put(f"Provenance/{id_}", source(id_, *targets, *more), headers=system)
        assert ("extension" in answer.json()["meta"]) is (id_ == "much")
