"""What is told when a version is beyond its thresholds: a Flag, and a Task that proposes to train
it anew (https://hl7.org/fhir/R4/flag.html, /task.html).

One Flag per version is active while something is found, and inactive again afterwards. One Task is
open at a time; a person closes it, and is not asked again within ``RESTING``.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.drafts import Draft
from fhir_server.access.roles import RETRAINING
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Gone, NotFound
from fhir_server.model.resource import Key, Stored

from ..publishing import described, present
from .monitor import DAY
from .report import Report

FLAG: Final = ".monitoring"
TASK: Final = ".retraining"
RESTING: Final = 30 * DAY
CLOSED: Final = frozenset({"completed", "cancelled", "rejected", "failed", "entered-in-error"})


async def tell(report: Report, session: Session, now: int) -> list[Key]:
    """Brings Flag and Task up to date; the keys that were written. ``session``: of the server."""
    id_ = report.package.id
    flag, task = Key("Flag", id_ + FLAG), Key("Task", id_ + TASK)
    drafts: list[Draft] = []
    known = await _current(session, flag)
    wanted = _flag(report)
    if report.findings or (known is not None and loads(known.body)["status"] == "active"):
        drafts.append(Draft("PUT", flag, wanted))
    if report.findings and _due(await _current(session, task), now):
        drafts.append(Draft("PUT", task, _task(report, now)))
    if drafts and not await present(session, Key("Device", id_)):
        drafts += described(report.package)
    if drafts:
        await session.write(drafts)
    return [draft.key for draft in drafts]


def _due(known: Stored | None, now: int) -> bool:
    """Is there no open proposal, and none that was closed lately?"""
    if known is None:
        return True
    return loads(known.body).get("status") in CLOSED and known.updated < now - RESTING


async def _current(session: Session, key: Key) -> Stored | None:
    try:
        return await session.read(key)
    except (NotFound, Gone):
        return None


def _flag(report: Report) -> Json:
    id_, title = report.package.id, report.package.card.title
    found = "; ".join(map(str, report.findings)) or "within its thresholds again"
    return {
        "resourceType": "Flag",
        "id": id_ + FLAG,
        "status": "active" if report.findings else "inactive",
        "category": [{"text": "Model monitoring"}],
        "code": {"text": f"{title} {report.package.card.version}: {found}"},
        "subject": {"display": f"Whoever is judged by {id_}"},
        "author": {"reference": f"Device/{id_}"},
    }


def _task(report: Report, now: int) -> Json:
    system, code = RETRAINING
    return {
        "resourceType": "Task",
        "id": report.package.id + TASK,
        "status": "requested",
        "intent": "proposal",
        "code": {"coding": [{"system": system, "code": code}], "text": "Train the model anew"},
        "description": "; ".join(map(str, report.findings)),
        "focus": {"reference": f"Device/{report.package.id}"},
        "requester": {"reference": f"Device/{report.package.id}"},
        "authoredOn": format_instant(now),
    }
