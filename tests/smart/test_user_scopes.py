"""F: ``user/`` scopes are scope ∩ role ∩ relationship; nothing widens."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.roles import ROLES
from fhir_server.auth.relations import Relation
from tests.serving import Server

Json = dict[str, Any]


@pytest.fixture
def hospital(secured: Server) -> Server:
    """Patients a and b, each with an Observation; c exists too. A doctor who cares for a."""
    system = secured.bearer("system/*.cruds")
    for id_ in ("a", "b", "c"):
        body = {"resourceType": "Patient", "id": id_, "name": [{"family": f"Family-{id_}"}]}
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code == 201
        put(secured, "Observation", f"o-{id_}", id_, status="final", code={"text": "x"})
        put(secured, "Task", f"t-{id_}", id_, status="draft", intent="order")
        put(secured, "Device", f"d-{id_}", id_)
    for type_, id_ in (("Practitioner", "doc"), ("Organization", "org"), ("Device", "free")):
        body = {"resourceType": type_, "id": id_, **({"name": "x"} if id_ == "org" else {})}
        assert secured.put(f"{type_}/{id_}", body, headers=system).status_code == 201
    document = {"resourceType": "Bundle", "id": "stored", "type": "collection"}
    assert secured.put("Bundle/stored", document, headers=system).status_code == 201
    secured.user("doc", "family-doctor", "Practitioner/doc")
    secured.relation("doc", "a")
    return secured


def put(server: Server, type_: str, id_: str, patient: str, **more: Any) -> None:
    link = {"Task": "for", "Device": "patient"}.get(type_, "subject")
    body = {"resourceType": type_, "id": id_, link: {"reference": f"Patient/{patient}"}, **more}
    answer = server.put(f"{type_}/{id_}", body, headers=server.bearer("system/*.cruds"))
    assert answer.status_code == 201, answer.text


def ids(server: Server, query: str, headers: Json) -> set[str]:
    answer = server.get(query, headers=headers)
    assert answer.status_code == 200, answer.text
    return {entry["resource"]["id"] for entry in answer.json().get("entry", ())}


def test_a_clinician_sees_patients_in_care(hospital: Server) -> None:
    doc = hospital.bearer("user/*.rs", user="doc")
    assert ids(hospital, "Patient", doc) == {"a"}
    assert ids(hospital, "Observation", doc) == {"o-a"}
    assert ids(hospital, "Observation?_include=Observation:subject", doc) == {"o-a", "a"}
    assert ids(hospital, "Patient?_revinclude=Observation:subject", doc) == {"o-a", "a"}
    assert ids(hospital, "Patient?_has:Observation:subject:code:text=x", doc) == {"a"}
    for hidden in ("Patient/b", "Observation/o-b", "Observation/o-b/_history", "Patient/nobody"):
        assert hospital.get(hidden, headers=doc).status_code == 404


def test_what_belongs_to_nobody_is_shared_and_what_may_name_a_patient_is_not(
    hospital: Server,
) -> None:
    """A Device or Task of another patient is outside of every Patient compartment of R4."""
    for bearer in (
        hospital.bearer("user/*.rs", user="doc"),
        hospital.bearer("patient/*.rs", patient="a"),
    ):
        assert ids(hospital, "Practitioner", bearer) == {"doc"}
        assert ids(hospital, "Organization", bearer) == {"org"}
        assert ids(hospital, "Task", bearer) == {"t-a"}
        assert ids(hospital, "Device", bearer) == {"d-a", "free"}
        assert hospital.get("Bundle/stored", headers=bearer).status_code == 404


def test_a_relationship_that_ends_or_begins_acts_on_the_next_request(hospital: Server) -> None:
    """D10, L65: also by the clock alone."""
    doc = hospital.bearer("user/*.rs", user="doc")
    relations, records = hospital.domain.identities.relations, hospital.domain.identities.records
    assert ids(hospital, "Patient", doc) == {"a"}
    hospital.relation("doc", "b")
    assert ids(hospital, "Patient", doc) == {"a", "b"}
    hospital.run(relations.end("doc", "a"))
    assert ids(hospital, "Patient", doc) == {"b"}
    now = records.now()
    hospital.run(relations.add(Relation("doc", "c", "referral", now + 100, now + 200)))
    assert ids(hospital, "Patient", doc) == {"b"}
    records.now = lambda: now + 150
    assert ids(hospital, "Patient", doc) == {"b", "c"}
    records.now = lambda: now + 250
    assert ids(hospital, "Patient", doc) == {"b"}


def test_a_changed_role_acts_on_the_next_request(hospital: Server) -> None:
    doc = hospital.bearer("user/*.cruds", user="doc")
    users = hospital.domain.identities.users
    assert hospital.get("Patient/a", headers=doc).status_code == 200
    hospital.run(users.change("doc", role="researcher"))
    assert hospital.get("Patient/a", headers=doc).status_code == 403
    hospital.run(users.change("doc", role="nurse"))
    assert hospital.get("Patient/a", headers=doc).status_code == 200
    hospital.run(users.change("doc", disabled=True))
    assert hospital.get("Patient/a", headers=doc).status_code == 401


def test_scope_narrows_the_role(hospital: Server) -> None:
    doc = hospital.bearer("user/Observation.rs", user="doc")
    assert ids(hospital, "Observation", doc) == {"o-a"}
    assert hospital.get("Patient/a", headers=doc).status_code == 403
    system = hospital.bearer("system/*.rs", user="doc")
    assert hospital.get("Patient/a", headers=system).status_code == 403


def test_a_launch_context_narrows_and_never_widens(hospital: Server) -> None:
    """B17, F06: a patient in context whom the user does not care for is out of reach."""
    inside = hospital.bearer("patient/*.rs", user="doc", patient="a")
    outside = hospital.bearer("patient/*.rs", user="doc", patient="b")
    assert ids(hospital, "Patient", inside) == {"a"}
    assert ids(hospital, "Patient", outside) == set()
    assert hospital.get("Patient/b", headers=outside).status_code == 404


def test_without_a_person_in_the_record_a_user_scope_grants_nothing(hospital: Server) -> None:
    """F06 (MSRC-128308)."""
    hospital.user("noone", "family-doctor")
    hospital.relation("noone", "a")
    bearer = hospital.bearer("user/*.cruds", user="noone")
    for type_ in sorted(hospital.domain.definitions.resource_types):
        assert hospital.get(type_, headers=bearer).status_code == 403, type_
    nobody = hospital.bearer("patient/*.cruds", client="test")
    # Without user and patient it is a backend service, which patient/ scopes do not serve.
    for type_ in ("Patient", "Observation", "Practitioner"):
        assert hospital.get(type_, headers=nobody).status_code == 403, type_


def test_a_patient_reads_its_own_record_and_writes_little(hospital: Server) -> None:
    hospital.user("pat", "patient", "Patient/b")
    bearer = hospital.bearer("user/*.cruds patient/*.cruds", user="pat", patient="b")
    assert ids(hospital, "Patient", bearer) == {"b"}
    assert ids(hospital, "Observation", bearer) == {"o-b"}
    own: Json = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": "Patient/b"},
    }
    assert hospital.post("Observation", own, headers=bearer).status_code == 201
    other = own | {"subject": {"reference": "Patient/a"}}
    assert hospital.post("Observation", other, headers=bearer).status_code in (403, 422)
    assert hospital.put("Observation/o-b", own | {"id": "o-b"}, headers=bearer).status_code == 403
    assert hospital.delete("Observation/o-b", headers=bearer).status_code == 403
    consent = {"resourceType": "Consent", "status": "active"}
    assert hospital.post("Consent", consent, headers=bearer).status_code == 403


def test_fhir_user_opens_the_users_own_resource_and_no_other(hospital: Server) -> None:
    """E05: reading ``fhirUser`` with the token answers."""
    hospital.user("pat", "patient", "Patient/b")
    bearer = hospital.bearer("openid fhirUser", user="pat")
    assert hospital.get("Patient/b", headers=bearer).status_code == 200
    assert hospital.get("Patient/a", headers=bearer).status_code == 404
    assert hospital.get("Observation/o-b", headers=bearer).status_code == 403
    assert hospital.get("Patient", headers=bearer).status_code == 403
    without = hospital.bearer("openid", user="pat")
    assert hospital.get("Patient/b", headers=without).status_code == 403


@pytest.mark.parametrize("role", list(ROLES))
def test_every_role_by_letter(smart: Server, role: str) -> None:
    """T04, F09: the table of roles against the requests that use each letter."""
    system = smart.bearer("system/*.cruds")
    smart.put("Patient/a", {"resourceType": "Patient", "id": "a"}, headers=system)
    put(smart, "Observation", "o", "a", status="final", code={"text": "x"})
    smart.put("Organization/g", {"resourceType": "Organization", "id": "g", "name": "x"})
    smart.user("u", role, "Patient/a" if role == "patient" else "Practitioner/u")
    if role != "patient":
        smart.relation("u", "a")
    bearer = smart.bearer("user/*.cruds", user="u")
    rights = ROLES[role]
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "y"},
        "subject": {"reference": "Patient/a"},
    }
    organization = {"resourceType": "Organization", "name": "new"}
    for type_, body, shared in (
        ("Observation", observation, False),
        ("Organization", organization, True),
    ):
        made = smart.create(body, headers=system)["id"]
        whole = body | {"id": made}
        changed = whole | ({"name": "other"} if shared else {"status": "amended"})
        answers = {
            "r": smart.get(f"{type_}/{made}", headers=bearer),
            "s": smart.get(type_, headers=bearer),
            "c": smart.post(type_, body, headers=bearer),
            "u": smart.put(f"{type_}/{made}", changed, headers=bearer),
            "d": smart.delete(f"{type_}/{made}", headers=bearer),
        }
        for letter, answer in answers.items():
            may = not rights.launched and rights.permits(letter, type_, shared=shared)
            assert (answer.status_code < 300) == may, (role, letter, type_, answer.text)
            assert may or answer.status_code == 403


def test_an_ai_service_acts_on_the_patient_in_context_alone(hospital: Server) -> None:
    hospital.user("ai", "ai-service", "Practitioner/doc")
    hospital.relation("ai", "a")
    hospital.relation("ai", "b")
    wide = hospital.bearer("user/*.rs", user="ai")
    assert hospital.get("Patient/a", headers=wide).status_code == 403
    task = hospital.bearer("patient/*.rs", user="ai", patient="a")
    assert ids(hospital, "Patient", task) == {"a"}
