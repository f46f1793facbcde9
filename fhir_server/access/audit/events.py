"""Lines as AuditEvents, in the shape of IHE BALP (https://profiles.ihe.net/ITI/BALP/).

One event for each patient, so that what one of them may see names no other.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from fhir_server.access.audit.entry import Entry
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json

_REST: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "RESTful Operation",
}
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_SOURCE, _DESTINATION, _APPLICATION = (
    (_DCM, "110153", "Source Role ID"),
    (_DCM, "110152", "Destination Role ID"),
    (_DCM, "110150", "Application"),
)
_CUSTODIAN: Final = (
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "custodian",
    "Custodian",
)
_RECIPIENT: Final = (
    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    "IRCP",
    "information recipient",
)
_AGENTS: Final = {
    "C": (_SOURCE, _DESTINATION),
    "R": (_DESTINATION, _SOURCE),
    "U": (_SOURCE, _DESTINATION),
    "D": (_APPLICATION, _CUSTODIAN),
    "E": (_SOURCE, _DESTINATION),
}
"""Client and server by action (BALP: Create, Read, Update, Delete, Query)."""

_INTERACTIONS: Final = {
    "read": ("R", "read"),
    "read-binary": ("R", "read"),
    "vread": ("R", "vread"),
    "vread-binary": ("R", "vread"),
    "history-instance": ("R", "history-instance"),
    "history-type": ("E", "history-type"),
    "history-system": ("E", "history-system"),
    "create": ("C", "create"),
    "create-binary": ("C", "create"),
    "update": ("U", "update"),
    "update-binary": ("U", "update"),
    "conditional-update": ("U", "update"),
    "patch": ("U", "patch"),
    "conditional-patch": ("U", "patch"),
    "delete": ("D", "delete"),
    "conditional-delete": ("D", "delete"),
    "search-type": ("E", "search-type"),
    "search-system": ("E", "search-system"),
    "search-compartment": ("E", "search-type"),
    "transaction": ("E", "transaction"),
    "operation": ("E", "operation"),
}
"""Interaction -> action and code of http://hl7.org/fhir/restful-interaction. What is not here
(jobs, unknown URLs) is executed and has no code.
"""
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_PERSON: Final = ("1", "Person", "1", "Patient")
_DATA: Final = ("2", "System Object", "4", "Domain Resource")
_QUERY: Final = ("2", "System Object", "24", "Query")
_FAILED, _ERROR = 400, 500


def audit_events(entry: Entry, base: str) -> list[Json]:
    """One event for each patient of a line, or one for nobody. ``base``: the URL of this FHIR
    base, by which the server is known.
    """
    patients: tuple[str | None, ...] = entry.patients or (None,)
    return [_event(entry, base, patient) for patient in patients]


def _event(entry: Entry, base: str, patient: str | None) -> Json:
    action, code = _INTERACTIONS.get(entry.interaction, ("E", ""))
    event: Json = {"resourceType": "AuditEvent", "type": _REST}
    if code:
        event["subtype"] = [
            {"system": "http://hl7.org/fhir/restful-interaction", "code": code, "display": code}
        ]
    event["action"] = action
    event["recorded"] = format_instant(entry.at)
    event["outcome"] = "0" if entry.status < _FAILED else "4" if entry.status < _ERROR else "8"
    if entry.why:
        event["outcomeDesc"] = f"{entry.status} {entry.why}"
    event["agent"] = _agents(entry, action, base)
    event["source"] = {
        "observer": {"display": base},
        "type": [_coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4")],
    }
    event["entity"] = _entities(entry, action, base, patient)
    return event


def _agents(entry: Entry, action: str, base: str) -> list[Json]:
    client, server = _AGENTS[action]
    asking: Json = {
        "type": _concept(client),
        "who": _named(entry.client or "unknown"),
        "requestor": not entry.user,
    }
    if entry.grant:
        asking["policy"] = [f"urn:vehr:grant:{entry.grant}"]
    if entry.peer:
        asking["network"] = {"address": entry.peer, "type": "2"}
    agents = [
        asking,
        {
            "type": _concept(server),
            "who": {"display": base},
            "requestor": False,
            "network": {"address": base, "type": "5"},
        },
    ]
    if entry.user:
        user: Json = {"type": _concept(_RECIPIENT)}
        if entry.role:
            user["role"] = [{"text": entry.role}]
        agents.append(user | {"who": _named(entry.user), "requestor": True})
    if entry.purpose:
        reason = _coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", entry.purpose)
        agents[-1 if entry.user else 0]["purposeOfUse"] = [{"coding": [reason]}]
    return agents


def _entities(entry: Entry, action: str, base: str, patient: str | None) -> list[Json]:
    entities: list[Json] = []
    if entry.what:
        entities.append(_entity(_DATA, what={"reference": entry.what}))
    elif action == "E" or entry.url.find(b"?") >= 0:
        place = base.encode().removesuffix(b"/fhir") + entry.url
        asked = b"%b %b" % (entry.method.encode(), place)
        if entry.form:
            asked += b"\n\n" + entry.form
        entities.append(_entity(_QUERY, query=b64encode(asked).decode()))
    if patient is not None:
        entities.append(_entity(_PERSON, what={"reference": f"Patient/{patient}"}))
    system = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
    entities.append(
        {
            "what": {"identifier": {"value": entry.request}},
            "type": {"system": system, "code": "XrequestId"},
        }
    )
    return entities


def _entity(kind: tuple[str, str, str, str], **content: object) -> Json:
    type_, type_name, role, role_name = kind
    head = {"what": content.pop("what")} if "what" in content else {}
    return {
        **head,
        "type": {"system": _ENTITY, "code": type_, "display": type_name},
        "role": {"system": _ROLE, "code": role, "display": role_name},
        **content,
    }


def _named(name: str) -> Json:
    return {"identifier": {"value": name}}


def _concept(coded: tuple[str, str, str]) -> Json:
    system, code, display = coded
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _coding(system: str, code: str) -> Json:
    return {"system": system, "code": code}
