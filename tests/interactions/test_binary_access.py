"""Who reads and writes a Binary: its security context. https://hl7.org/fhir/R4/binary.html"""

from __future__ import annotations

import pytest

from tests.interactions.binaries import (
    AS_RESOURCE,
    PDF,
    data,
    made,
    replaced,
    upload,
)
from tests.serving import FHIR_JSON, Server

# securityContext: who may read what it names may read the Binary, nobody else.


@pytest.fixture
def hospital(secured: Server) -> Server:
    system = secured.bearer("system/*.cruds")
    for id_ in ("p1", "p2"):
        body = {"resourceType": "Patient", "id": id_}
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code == 201
    return secured


def test_c84_raw_as_a_resource_and_by_its_security_context(secured: Server) -> None:
    system = secured.bearer("system/*.cruds")
    for id_ in ("p1", "p2"):
        body = {"resourceType": "Patient", "id": id_}
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code == 201
    id_ = made(secured, x_security_context="Patient/p1", **system)
    url = f"Binary/{id_}"
    mine = secured.bearer("patient/*.rs", patient="p1")
    for accept in ("application/pdf", "*/*", "image/png"):
        raw = secured.get(url, headers=mine | {"accept": accept})
        assert (raw.content, raw.headers["content-type"]) == (PDF, "application/pdf")
    shown = secured.get(url, headers=mine | AS_RESOURCE)
    assert shown.headers["content-type"].startswith(FHIR_JSON) and data(shown.json()) == PDF
    assert shown.json()["securityContext"] == {"reference": "Patient/p1"}
    markup = secured.get(url, headers=mine | {"accept": "application/fhir+xml"})
    assert markup.headers["content-type"].startswith("application/fhir+xml")
    theirs = secured.bearer("patient/*.rs", patient="p2")
    absent = secured.get("Binary/no-such-id", headers=theirs)
    for headers in (theirs, theirs | AS_RESOURCE):
        hidden = secured.get(url, headers=headers)
        assert hidden.status_code == 404
        assert hidden.text.replace(id_, "no-such-id") == absent.text


def test_access_follows_the_security_context(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    mine = made(hospital, x_security_context="Patient/p1", **system)
    others = made(hospital, x_security_context="Patient/p2", **system)
    bare = made(hospital, **system)
    patient = hospital.bearer("patient/*.cruds", patient="p1")
    read = hospital.get(f"Binary/{mine}", headers=patient)
    assert read.content == PDF and read.headers["x-security-context"] == "Patient/p1"
    for id_ in (mine, others, bare):
        assert hospital.get(f"Binary/{id_}", headers=system).status_code == 200
    for url in ("Binary/{}", "Binary/{}/_history", "Binary/{}/_history/1"):
        absent = hospital.get(url.format("no-such-id"), headers=patient)
        assert absent.status_code == 404
        for id_ in (others, bare):
            hidden = hospital.get(url.format(id_), headers=patient)
            assert hidden.status_code == 404
            assert hidden.text.replace(id_, "no-such-id") == absent.text
    assert hospital.get("Binary?_summary=count", headers=patient).json()["total"] == 0


def test_hidden_is_absent_for_writes(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    others = made(hospital, x_security_context="Patient/p2", **system)
    patient = hospital.bearer("patient/*.cruds", patient="p1")
    context = {"x_security_context": "Patient/p1"}
    for id_ in (others, "no-such-id"):
        assert replaced(hospital, id_, b"new", **context, **patient).status_code == 405
        assert hospital.delete(f"Binary/{id_}", headers=patient).status_code == 204
    assert hospital.get(f"Binary/{others}", headers=system).content == PDF


def test_a_patient_writes_only_with_a_context_of_its_own(hospital: Server) -> None:
    patient = hospital.bearer("patient/*.cruds", patient="p1")
    id_ = made(hospital, x_security_context="Patient/p1", **patient)
    assert replaced(hospital, id_, b"2", x_security_context="Patient/p1", **patient).status_code
    assert hospital.get(f"Binary/{id_}", headers=patient).content == b"2"
    for context, status in (("Patient/p2", 422), ("Patient/none", 422), ("http://x/y", 403)):
        assert upload(hospital, x_security_context=context, **patient).status_code == status
        answer = replaced(hospital, id_, b"3", x_security_context=context, **patient)
        assert answer.status_code == status, answer.text
    assert upload(hospital, **patient).status_code == 403
    assert replaced(hospital, id_, b"3", **patient).status_code == 403
    assert hospital.delete(f"Binary/{id_}", headers=patient).status_code == 204
    assert hospital.get(f"Binary/{id_}", headers=patient).status_code == 410


def test_a_lost_target_hides_it(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p1"},
    }
    target = hospital.create(observation, headers=system)
    id_ = made(hospital, x_security_context=f"Observation/{target['id']}", **system)
    patient = hospital.bearer("patient/*.rs", patient="p1")
    assert hospital.get(f"Binary/{id_}", headers=patient).status_code == 200
    narrow = hospital.bearer("patient/Binary.r patient/Patient.r", patient="p1")
    assert hospital.get(f"Binary/{id_}", headers=narrow).status_code == 404
    moved = target | {"subject": {"reference": "Patient/p2"}}
    assert hospital.put(f"Observation/{target['id']}", moved, headers=system).status_code == 200
    assert hospital.get(f"Binary/{id_}", headers=patient).status_code == 404


def test_a_system_of_few_types(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    id_, bare = made(hospital, x_security_context="Patient/p1", **system), made(hospital, **system)
    few = hospital.bearer("system/Binary.cruds")
    assert hospital.get(f"Binary/{id_}", headers=few).status_code == 404
    assert hospital.get(f"Binary/{bare}", headers=few).status_code == 200
    assert hospital.get("Binary?_summary=count", headers=few).json()["total"] == 0
    assert replaced(hospital, id_, b"2", **few).status_code == 403
    assert upload(hospital, **few).status_code == 201
    more = hospital.bearer("system/Binary.r system/Patient.r")
    assert hospital.get(f"Binary/{id_}", headers=more).status_code == 200


def test_a_system_scope_on_a_patient_token_counts_for_nothing(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    hidden = made(hospital, x_security_context="Patient/p2", **system)
    mixed = hospital.bearer("patient/*.rs system/*.rs", patient="p1")
    assert hospital.get(f"Binary/{hidden}", headers=mixed).status_code == 404
    assert hospital.get("Binary?_summary=count", headers=mixed).json()["total"] == 0


def test_includes_do_not_go_around(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    hidden = made(hospital, x_security_context="Patient/p2", **system)
    list_ = {
        "resourceType": "List",
        "status": "current",
        "mode": "working",
        "subject": {"reference": "Patient/p1"},
        "entry": [{"item": {"reference": f"Binary/{hidden}"}}],
    }
    hospital.create(list_, headers=system)
    seen = hospital.get("List?_include=List:item", headers=system).json()
    assert [e["resource"]["resourceType"] for e in seen["entry"]] == ["List", "Binary"]
    assert seen["entry"][1]["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"
    patient = hospital.bearer("patient/*.rs", patient="p1")
    seen = hospital.get("List?_include=List:item", headers=patient).json()
    assert [e["resource"]["resourceType"] for e in seen["entry"]] == ["List"]


def test_no_token_no_content(hospital: Server) -> None:
    assert upload(hospital).status_code == 401
    assert hospital.get("Binary/x").status_code == 401


def test_scopes_of_other_letters(hospital: Server) -> None:
    reader = hospital.bearer("patient/*.rs", patient="p1")
    assert upload(hospital, x_security_context="Patient/p1", **reader).status_code == 403
