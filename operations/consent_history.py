"""Patient/[id]/$consent-history: what a patient has decided and when, in plain words.

Made of the versions of the patient's Consents, the latest first.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final

from fhir_server.access.ceremony import CONSENT
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Stored
from fhir_server.search.plan import History, InPatient, Scan, Search

from .consenting.people import require_decider
from .consenting.words import LANGUAGES, Words, words_of
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

MOST: Final = 100
"""Consents, and versions of each."""
INPUTS: Final = (Parameter("language", "code", f"One of {', '.join(LANGUAGES)}; default en"),)
ENTRY: Final = (
    Parameter("when", "instant", "When it was", min=1),
    Parameter("act", "code", "given changed withdrawn", min=1),
    Parameter("who", "Reference", "Who decided, if it is known"),
    Parameter("text", "string", "What was decided, in words", min=1),
    Parameter("consent", "Reference", "This version of the Consent", min=1),
    Parameter("active", "boolean", "Does it hold now?", min=1),
)
OUTPUTS: Final = (Parameter("entry", "", "One act, the latest first", max=None, parts=ENTRY),)


async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
    """The handler."""
    words = words_of(arguments.one("language", "en"))
    await require_decider(session, call.id)
    scan = Scan(CONSENT, InPatient((call.id,)))
    page = await session.search(Search((scan,), count=MOST, total="none"))
    acts: list[tuple[int, Json]] = []
    for consent in page.matches:
        versions = await session.history(History(CONSENT, consent.key.id, count=MOST))
        before: Json = {}
        for stored in reversed([v for v in versions.entries if not v.deleted]):
            resource = resource_of(stored)
            acts.append((stored.updated, _entry(stored, resource, before, consent, words)))
            before = resource
    acts.sort(key=lambda act: act[0], reverse=True)
    return {"resourceType": "Parameters", "parameter": [entry for _, entry in acts]}


def _entry(stored: Stored, resource: Json, before: Json, newest: Stored, words: Words) -> Json:
    active = resource.get("status") == "active"
    act = "withdrawn" if before and not active else "changed" if before else "given"
    reference = {"reference": f"{stored.key}/_history/{stored.version}"}
    parts: list[Json] = [
        {"name": "when", "valueInstant": format_instant(stored.updated)},
        {"name": "act", "valueCode": act},
        {"name": "text", "valueString": f"{words.acts[act]}: {told(resource)}"},
        {"name": "consent", "valueReference": reference},
        {"name": "active", "valueBoolean": active and stored.version == newest.version},
    ]
    for who in resource.get("performer", ())[:1]:
        parts.insert(2, {"name": "who", "valueReference": who})
    return {"name": "entry", "part": parts}


def told(resource: Json) -> str:
    """What the narrative says, else the title of the source, else the kind of Consent."""
    lines = re.findall(r"<p>(.*?)</p>", resource.get("text", {}).get("div", ""), re.DOTALL)
    if lines:
        return " / ".join(unescape(line) for line in lines)
    title = resource.get("sourceAttachment", {}).get("title")
    return str(title or resource.get("scope", {}).get("text") or CONSENT)


consent_history: Final = Operation(
    code="consent-history",
    levels=frozenset(("instance",)),
    types=("Patient",),
    affects_state=False,
    inputs=INPUTS,
    outputs=OUTPUTS,
    scope="patient/Consent.rs",
    description="What a patient has decided and when, in plain words",
    example="GET Patient/example/$consent-history?language=ru",
    handler=handle,
    needs=(CONSENT,),
)
