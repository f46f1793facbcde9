"""Requests and acts of the server as AuditEvents: the BasicAudit patterns of IHE BALP.

https://profiles.ihe.net/ITI/BALP/content.html
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

from fhir_server.access.audit import codes
from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.pieces import (
    DATA,
    ENTITY,
    PERSON,
    SECURITY,
    WEB,
    View,
    entity,
    named,
    network,
    outcome,
    purpose,
    source,
    user,
)
from fhir_server.access.audit.queries import shown
from fhir_server.formats.json import dumps
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json

_QUERY: Final = ("2", "System Object", "24", "Query")
_TARGET: Final = ("2", "System Object", "13", "Security Resource")
_OPERATION: Final = re.compile(rb"/\$([a-z][a-z0-9-]{0,63})(?:$|\?)")
_LOG: Final = re.compile(rb"/fhir/(?:AuditEvent|Patient/[^/?]+/(?:AuditEvent|\$access-log))\b")
_BREAK_GLASS: Final = "BTG"


def request_event(entry: Entry, patient: str | None, view: View) -> Json:
    """Of one patient of a line, or of nobody."""
    act = codes.act_of(entry.interaction)
    action, code = codes.INTERACTIONS.get(entry.interaction, ("E", ""))
    event: Json = {
        "resourceType": "AuditEvent",
        "type": codes.coding(act.type if act is not None else codes.REST),
    }
    if subtypes := list(_subtypes(entry, act, code)):
        event["subtype"] = [codes.coding(one) for one in subtypes]
    event["action"] = action = act.action if act is not None else action
    event["recorded"] = format_instant(entry.at)
    event["outcome"] = outcome(entry.status)
    if entry.why:
        event["outcomeDesc"] = f"{entry.status} {_why(entry, view)}"
    event["agent"] = _agents(entry, action, view, patient, act)
    event["source"] = source(view, WEB if act is None else SECURITY)
    event["entity"] = _entities(entry, action, view, patient, act)
    return event


def _subtypes(entry: Entry, act: codes.Act | None, code: str) -> Iterator[codes.Coded]:
    if act is not None:
        if act.subtype is not None:
            yield act.subtype
        yield codes.OWN, entry.interaction, entry.interaction
        return
    if code:
        yield codes.RESTFUL, code, code
    if entry.interaction == "operation" and (found := _OPERATION.search(entry.url)):
        name = found[1].decode()
        yield codes.OWN, f"${name}", f"${name}"
        if name in codes.OPERATIONS:
            yield codes.OPERATIONS[name]
    if _LOG.match(entry.url):
        yield codes.LOG_USED
    if entry.purpose == _BREAK_GLASS:
        yield codes.EMERGENCY


def _why(entry: Entry, view: View) -> str:
    return entry.why if view.whole else entry.why.partition(":")[0]


def _agents(
    entry: Entry, action: str, view: View, patient: str | None, act: codes.Act | None
) -> list[Json]:
    client, server = codes.AGENTS[action]
    if act is not None:
        client, server = codes.APPLICATION, codes.OAUTH
    asking: Json = {
        "type": codes.concept(client),
        "who": named(entry.client or "unknown"),
        "requestor": not entry.user,
        "network": network(entry, view),
    }
    if entry.grant and view.whole:
        asking["policy"] = [f"urn:vehr:grant:{entry.grant}"]
    agents = [
        asking,
        {
            "type": codes.concept(server),
            "who": {"display": view.base},
            "requestor": False,
            "network": {"address": view.base, "type": "5"},
        },
    ]
    if entry.user:
        agents.append(user(entry, patient, view))
    if entry.purpose:
        agents[-1 if entry.user else 0]["purposeOfUse"] = [purpose(entry.purpose)]
    return agents


def _entities(
    entry: Entry, action: str, view: View, patient: str | None, act: codes.Act | None
) -> list[Json]:
    entities: list[Json] = []
    if act is not None:
        if entry.target:
            entities.append(entity(_TARGET) | {"name": entry.target})
    elif entry.what:
        entities.append(entity(DATA, what=_about(entry.what, patient)))
    elif action == "E" or entry.url.find(b"?") >= 0:
        place = view.base.encode().removesuffix(b"/fhir") + entry.url
        asked = b"%b %b" % (entry.method.encode(), place)
        if entry.form:
            asked += b"\n\n" + entry.form
        if not view.whole:
            asked = shown(asked, patient)
        entities.append(entity(_QUERY, query=b64encode(asked).decode()))
    if patient is not None:
        entities.append(entity(PERSON, what={"reference": f"Patient/{patient}"}))
    if entry.request:
        entities.append(
            {
                "what": {"identifier": {"value": entry.request}},
                "type": {"system": codes.BALP + "BasicAuditEntityType", "code": "XrequestId"},
            }
        )
    if entry.refused and entry.why:
        entities.append(_failure(entry, view))
    return entities


def _about(what: str, patient: str | None) -> Json:
    """The resource; of another patient than the one that the event is of, that it is one."""
    type_, _, rest = what.partition("/")
    if patient is not None and type_ == "Patient" and rest.partition("/")[0] != patient:
        return {"type": "Patient", "display": "another patient"}
    return {"reference": what}


def _failure(entry: Entry, view: View) -> Json:
    """The OperationOutcome that was answered."""
    code, _, text = entry.why.partition(": ")
    issue: Json = {"severity": "error", "code": code if entry.method else "processing"}
    if text and view.whole:
        issue["diagnostics"] = text
    problem = {"resourceType": "OperationOutcome", "issue": [issue]}
    detail = {"type": "OperationOutcome", "valueBase64Binary": b64encode(dumps(problem)).decode()}
    return {
        "type": {"system": ENTITY, "code": "4", "display": "Other"},
        "name": "OperationOutcome",
        "detail": [detail],
    }
