"""Searches of other types that lead over AuditEvents know the trail as well as what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.audit import crossing
from tests.audit.trail import Clinic, observation, patient
from tests.serving import Json, served


@pytest.fixture(scope="module")
def used(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A third patient, whom nobody looks at but who is in an event that was sent."""
    data = tmp_path_factory.mktemp("crossing")
    with served(backend, data, open_=False) as server:
        clinic = Clinic(server, data)
        clinic.other = server.create(patient(), headers=clinic.all)["id"]
        server.create(observation(clinic.other), headers=clinic.all)
        clinic.auditor = server.bearer("system/*.crs", client="auditor")
        few = server.bearer("system/Observation.rs", client="few")
        server.get(f"Patient/{clinic.patient}", headers=few)  # refused: outcome 4
        server.get(f"Observation/{clinic.observation}", headers=clinic.all)
        yield clinic


def ids(clinic: Clinic, query: str, headers: Json | None = None) -> set[str]:
    return {one["id"] for one in resources(clinic, query, headers)}


def resources(clinic: Clinic, query: str, headers: Json | None = None) -> list[dict[str, Any]]:
    answer = clinic.server.get(query, headers=headers or clinic.auditor)
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", ())]


def sent(person: str, date: str = "2020-01-01T00:00:00.000Z") -> Json:
    return {
        "resourceType": "AuditEvent",
        "type": {"code": "rest"},
        "action": "R",
        "outcome": "8",
        "recorded": date,
        "agent": [{"requestor": True}],
        "source": {"observer": {"display": "pacs"}},
        "entity": [{"what": {"reference": f"Patient/{person}"}}],
    }


def test_has_knows_both(used: Clinic) -> None:
    third = used.server.create(patient(), headers=used.all)["id"]
    used.server.create(sent(third), headers=used.auditor)
    assert ids(used, "Patient?_has:AuditEvent:patient:outcome=4") == {used.patient}
    assert ids(used, "Patient?_has:AuditEvent:patient:outcome=8") == {third}
    assert ids(used, "Patient?_has:AuditEvent:entity:outcome=4,8") == {used.patient, third}
    assert used.patient not in ids(used, "Patient?_has:AuditEvent:patient:date=lt2021")
    query = f"Observation?_has:AuditEvent:entity:action=R&patient={used.patient}"
    assert ids(used, query) == {used.observation}
    assert ids(used, "Observation?subject:Patient._has:AuditEvent:patient:outcome=4") == {
        used.observation
    }
    refused = "_has:AuditEvent:patient:outcome=4"
    assert ids(used, "Patient?_has:AuditEvent:patient:agent:identifier=few&_summary=count") == set()
    total = used.server.get(f"Patient?{refused}&_summary=count", headers=used.auditor).json()
    assert total["total"] == 1


def test_the_events_come_with_what_they_are_about(used: Clinic) -> None:
    query = f"Patient?_id={used.patient}&_revinclude=AuditEvent:patient"
    both = resources(used, query)
    events = {one["id"] for one in both if one["resourceType"] == "AuditEvent"}
    # Each look at the trail is an event of its own, so those of before are compared.
    later = ids(used, f"AuditEvent?patient={used.patient}&_count=100")
    assert events and events < later and len(later) - len(events) <= 2
    stored = used.server.create(sent(used.patient), headers=used.auditor)["id"]
    assert stored in ids(used, query) and events < ids(used, query)
    assert ids(used, f"{query}&_summary=count") == set()
    everything = ids(used, f"Patient?_id={used.patient}&_revinclude=*")
    assert everything > events | {used.observation, stored}
    assert ids(used, f"Patient?_id={used.other}&_revinclude=AuditEvent:patient").isdisjoint(events)


def test_references_to_events_lead_there(used: Clinic) -> None:
    """A Provenance about an event of the trail: chain, ``_include`` and the event's own look."""
    event = resources(used, f"AuditEvent?patient={used.patient}&outcome=4")[0]["id"]
    about = {"target": [{"reference": f"AuditEvent/{event}"}], "recorded": "2026-01-01T00:00:00Z"}
    agent = {"agent": [{"who": {"display": "reviewer"}}]}
    made = used.server.create({"resourceType": "Provenance", **about, **agent}, headers=used.all)[
        "id"
    ]
    assert ids(used, "Provenance?target:AuditEvent.outcome=4") == {made}
    assert ids(used, "Provenance?target:AuditEvent.outcome=12") == set()
    assert ids(used, "Provenance?_include=Provenance:target") == {made, event}
    assert event in ids(used, "Provenance?_include:iterate=Provenance:target")


def test_who_sees_no_events_finds_by_none(used: Clinic) -> None:
    blind = used.server.bearer("system/Patient.rs system/Observation.rs", client="blind")
    assert ids(used, "Patient?_has:AuditEvent:patient:outcome=4", blind) == set()
    assert ids(used, f"Patient?_id={used.patient}&_revinclude=AuditEvent:patient", blind) == {
        used.patient
    }
    server = used.server
    server.user("pat", "patient", f"Patient/{used.patient}")
    own = server.bearer("patient/*.rs", user="pat", patient=used.patient)
    found = resources(used, "Patient?_revinclude=AuditEvent:patient", own)
    assert len(found) > 2 and used.other not in str(found)
    assert ids(used, "Patient?_has:AuditEvent:patient:outcome=4", own) == {used.patient}


def test_what_cannot_be_exact_is_refused(used: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(query: str, code: str) -> None:
        answer = used.server.get(query, headers=used.auditor)
        assert answer.status_code == 400, answer.text
        assert answer.json()["issue"][0]["code"] == code

    refused("Patient?_revinclude:iterate=AuditEvent:patient", "not-supported")
    refused(
        "Patient?_revinclude=AuditEvent:patient&_include:iterate=AuditEvent:patient",
        "not-supported",
    )
    monkeypatch.setattr(crossing, "LED", 0)
    refused("Patient?_has:AuditEvent:patient:outcome=4", "too-costly")
    refused("Provenance?target:AuditEvent.outcome=4", "too-costly")
    monkeypatch.setattr(crossing.plan, "INCLUDE_LIMIT", 1)
    refused(f"Patient?_id={used.patient}&_revinclude=AuditEvent:patient", "too-costly")


def test_the_statement_does_not_list_what_nobody_may(used: Clinic, tmp_path: Path) -> None:
    def of(statement: dict[str, Any], type_: str) -> dict[str, Any]:
        return next(one for one in statement["rest"][0]["resource"] if one["type"] == type_)

    statement = used.server.get("metadata").json()
    events = of(statement, "AuditEvent")
    codes = {one["code"] for one in events["interaction"]}
    assert codes >= {"create", "read", "search-type"}
    assert codes.isdisjoint({"update", "patch", "delete"})
    assert not events["updateCreate"] and not events["conditionalUpdate"]
    assert events["conditionalDelete"] == "not-supported"
    operations = {one["name"] for one in events["operation"]}
    assert operations.isdisjoint({"meta-add", "meta-delete", "expunge"})
    assert {"update", "patch", "delete"} <= {
        one["code"] for one in of(statement, "Patient")["interaction"]
    }
    described = used.server.get("/docs/openapi.json?type=AuditEvent").json()["paths"]
    assert set(described["/fhir/AuditEvent/{id}"]) == {"get"}
