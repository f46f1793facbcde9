"""Decisions on consent as AuditEvents: IHE.BasicAudit.AuthZconsent.

https://profiles.ihe.net/ITI/BALP/StructureDefinition-IHE.BasicAudit.AuthZconsent.html
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.audit import codes
from fhir_server.access.audit.entry import Decision, Entry
from fhir_server.access.audit.pieces import (
    DATA,
    PERSON,
    SECURITY,
    View,
    entity,
    named,
    network,
    purpose,
    source,
    user,
)
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json

_CONSENT: Final = {"system": "http://hl7.org/fhir/resource-types", "code": "Consent"}


def decision_event(entry: Entry, decision: Decision, view: View) -> Json:
    """Of one decision that was taken for the request of a line."""
    permitted = decision.outcome == "permit"
    event: Json = {
        "resourceType": "AuditEvent",
        "type": codes.coding(codes.ALERT),
        "subtype": [codes.coding(codes.CONSENT)],
        "action": "E",
        "recorded": format_instant(entry.at),
        "outcome": "0" if permitted else "4",
    }
    said = [decision.outcome, decision.rule]
    if view.whole and decision.reason:
        said.append(decision.reason)
    event["outcomeDesc"] = ": ".join(part for part in said if part)
    event["agent"] = _agents(entry, decision, view)
    event["source"] = source(view, SECURITY)
    event["entity"] = _entities(entry, decision, view)
    return event


def _agents(entry: Entry, decision: Decision, view: View) -> list[Json]:
    asking: Json = {
        "type": codes.concept(codes.APPLICATION),
        "who": named(entry.client or "unknown"),
        "requestor": False,
        "network": network(entry, view),
    }
    # The profile wants a user: a client that acts for itself is that.
    mine = user(entry, decision.patient, view) if entry.user else None
    person = mine or _client_itself(entry)
    organisation: Json = {
        "type": codes.concept(codes.PROVIDER),
        "who": {"display": view.base},
        "requestor": False,
    }
    authoriser: Json = {
        "type": codes.concept(codes.AUTHORISER),
        "who": {"display": view.base},
        "requestor": False,
    }
    used = decision.purpose or entry.purpose
    if used:
        person["purposeOfUse"] = [purpose(used)]
    return [asking, person, organisation, authoriser]


def _client_itself(entry: Entry) -> Json:
    return {
        "type": codes.concept(codes.RECIPIENT),
        "who": named(entry.client or "unknown"),
        "requestor": True,
    }


def _entities(entry: Entry, decision: Decision, view: View) -> list[Json]:
    found = [entity(PERSON, what={"reference": f"Patient/{decision.patient}"})]
    for id_, version in decision.consents:
        found.append({"what": {"reference": f"Consent/{id_}/_history/{version}"}, "type": _CONSENT})
    if not decision.consents:
        found.append(
            {"what": {"display": "no consent: the policy of the domain"}, "type": _CONSENT}
        )
    found[-1]["detail"] = [{"type": "rule", "valueString": decision.rule or "none"}]
    if entry.what and decision.outcome == "deny":
        found.append(entity(DATA, what={"reference": entry.what}))
    token = decision.token or (entry.grant if view.whole else "")
    if token:
        found.append(
            {
                "what": {"identifier": {"value": token}},
                "type": {"system": codes.BALP + "UserAgentTypes", "code": "UserOauthAgent"},
            }
        )
    found.append(
        {
            "what": {"identifier": {"value": entry.request}},
            "type": {"system": codes.BALP + "BasicAuditEntityType", "code": "XrequestId"},
        }
    )
    return found
