"""AuditEvent/$access-report: what of the audit trail somebody should look at.

For who audits (administrators, ``system/`` clients); the same as ``vehr audit report``.
"""

from __future__ import annotations

from datetime import time, timedelta, tzinfo
from typing import Final

from fhir_server.access.audit.report import Finding, Report, Rules
from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant, parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

DAYS: Final = 30
MICROS: Final = 1_000_000
INPUTS: Final = (
    Parameter("start", "date", f"First day; default: {DAYS} days ago"),
    Parameter("end", "date", "Last day; default: today"),
    Parameter("begin", "time", "When working hours begin on weekdays; default 07:00:00"),
    Parameter("finish", "time", "When they end; default 20:00:00"),
    Parameter(
        "patients", "positiveInt", "Patients of one user in a day: beyond is told; default 100"
    ),
)
FINDING: Final = (
    Parameter(
        "kind",
        "code",
        "failed-login, lockout, denied, off-hours, break-glass, many-patients, admin",
        min=1,
    ),
    Parameter("who", "string", "A user, a client, or an address", min=1),
    Parameter("count", "integer", "How often; of many-patients: how many patients", min=1),
    Parameter("patients", "integer", "How many patients were concerned", min=1),
    Parameter("first", "instant", "The first time", min=1),
    Parameter("last", "instant", "The last time", min=1),
    Parameter("detail", "string", "Reasons"),
)
OUTPUTS: Final = (
    Parameter("start", "instant", "From when", min=1),
    Parameter("end", "instant", "Until when", min=1),
    Parameter("lines", "integer", "Requests and events that were looked at", min=1),
    Parameter("finding", "", "By kind, the most first", max=None, parts=FINDING),
)
_TYPES: Final = {"count": "valueInteger", "patients": "valueInteger", "kind": "valueCode"}
_MORE: Final = {"first": "valueInstant", "last": "valueInstant"}


def access_report(zone: tzinfo) -> Operation:
    """The row. ``zone``: of days and working hours."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
        low, high = window(arguments.one("start"), arguments.one("end"), call.now, zone)
        report = Report(rules(arguments, zone))
        async for entry in session.trail(low, high):
            report.add(entry)
        return answer(low, high, report)

    return Operation(
        code="access-report",
        levels=frozenset(("type",)),
        types=("AuditEvent",),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="user/AuditEvent.s",
        description="Failed logins, refusals, access at odd hours or by emergency, and users who "
        "opened unusually many patients",
        example="GET AuditEvent/$access-report",
        handler=handle,
    )


def window(start: str | None, end: str | None, now: int, zone: tzinfo) -> tuple[int, int]:
    """Microseconds, the end exclusive. Raises BadRequest."""
    high = parse_datetime(end, zone).hi if end else now
    month = int(timedelta(days=DAYS).total_seconds()) * MICROS
    low = parse_datetime(start, zone).lo if start else high - month
    if low >= high:
        raise BadRequest("start: must be before end", code="value")
    return low, high


def rules(arguments: Arguments, zone: tzinfo) -> Rules:
    usual = Rules(zone)
    begin, end = arguments.one("begin"), arguments.one("finish")
    return Rules(
        zone,
        time.fromisoformat(begin) if begin else usual.begin,
        time.fromisoformat(end) if end else usual.end,
        arguments.one("patients", usual.patients),
    )


def answer(low: int, high: int, report: Report) -> Json:
    """The out parameters."""
    found = [{"name": "finding", "part": _parts(one)} for one in report.findings()]
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "start", "valueInstant": format_instant(low)},
            {"name": "end", "valueInstant": format_instant(high)},
            {"name": "lines", "valueInteger": report.lines},
            *found,
        ],
    }


def _parts(finding: Finding) -> list[Json]:
    kinds = _TYPES | _MORE
    members = finding.members().items()
    return [{"name": n, kinds.get(n, "valueString"): v} for n, v in members if v != ""]
