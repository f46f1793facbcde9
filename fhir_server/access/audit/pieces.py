"""Parts that AuditEvents of every kind have, and for whom they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fhir_server.access.audit import codes
from fhir_server.access.audit.entry import FAILED, Entry
from fhir_server.model.exchange import Json

ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
DATA: Final = ("2", "System Object", "4", "Domain Resource")
PERSON: Final = ("1", "Person", "1", "Patient")
_SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
WEB, SECURITY = "4", "6"
"""Kinds of source: https://hl7.org/fhir/R4/valueset-audit-source-type.html"""
_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class View:
    """``base``: the URL of this FHIR base, by which the server is known. ``whole``: for who audits;
    else what a patient may see: no address, no reason, no word of others.
    """

    base: str
    whole: bool = True


def outcome(status: int) -> str:
    """https://hl7.org/fhir/R4/valueset-audit-event-outcome.html"""
    return "0" if status < FAILED else "4" if status < _ERROR else "8"


def source(view: View, kind: str) -> Json:
    return {
        "observer": {"display": view.base},
        "type": [{"system": _SOURCE_TYPE, "code": kind}],
    }


def network(entry: Entry, view: View) -> Json:
    """Where the client is; its address is for who audits."""
    if entry.peer and view.whole:
        return {"address": entry.peer, "type": "2"}
    return {"type": "2"}


def user(entry: Entry, patient: str | None, view: View) -> Json:
    """The person that asks, with role; one who is a patient too is no reference for others."""
    found: Json = {"type": codes.concept(codes.RECIPIENT)}
    if entry.role:
        role = {"system": codes.ROLES, "code": entry.role}
        found["role"] = [{"coding": [role], "text": entry.role}]
    who = named(entry.user)
    other = entry.person.startswith("Patient/") and entry.person != f"Patient/{patient}"
    if entry.person and (view.whole or not other):
        who = {"reference": entry.person} | who
    return found | {"who": who, "name": entry.user, "requestor": True}


def purpose(code: str) -> Json:
    return {"coding": [{"system": codes.REASONS, "code": code}]}


def entity(kind: tuple[str, str, str, str], **content: object) -> Json:
    """``kind``: code and display of the type, then of the role."""
    type_, type_name, role, role_name = kind
    head = {"what": content.pop("what")} if "what" in content else {}
    return {
        **head,
        "type": {"system": ENTITY, "code": type_, "display": type_name},
        "role": {"system": ROLE, "code": role, "display": role_name},
        **content,
    }


def named(name: str) -> Json:
    return {"identifier": {"value": name}}
