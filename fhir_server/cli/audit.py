"""``vehr audit``: is the trail whole, and what does it say?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
import typer

from fhir_server.access.audit.chain import SUFFIX, lines
from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.events import audit_events
from fhir_server.access.audit.log import FOLDER
from fhir_server.access.audit.report import Report as AccessReport
from fhir_server.access.audit.report import Rules, table
from fhir_server.access.audit.verify import Report, verify
from fhir_server.app import FHIR, opened
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.formats.json import dumps
from fhir_server.model.datatypes import format_instant
from fhir_server.model.fresh import micros
from fhir_server.model.problem import BadRequest
from operations.access_report import window

audit = typer.Typer(help="The audit trail: verify, show.", no_args_is_help=True)


@audit.command("verify")
def verify_command(data: Data = None) -> None:
    """Check every chain, its head and the rows of writes; 1 if anything was changed."""
    report = asyncio.run(verified(lasting(settings_of(data))))
    for note in report.notes:
        print(f"note  {note}")
    for fault in report.faults:
        print(f"FAIL  {fault}")
    counted = f"{report.lines:,} lines in {report.chains:,} chains, {report.writes:,} writes"
    if report.faults:
        print(f"FAIL  {counted}: {len(report.faults)} faults")
        raise typer.Exit(1)
    print(f"ok    {counted}")


async def verified(settings: Settings) -> Report:
    async with opened(settings) as domain:
        return await verify(settings.data, domain.store.ledger)


@audit.command()
def show(
    patient: Annotated[str, typer.Option(help="Id of a patient.")] = "",
    user: Annotated[str, typer.Option(help="A user, or a client.")] = "",
    since: Annotated[str, typer.Option(help="First day, for example 2026-01-31.")] = "",
    events: Annotated[bool, typer.Option("--events", help="As AuditEvents, NDJSON.")] = False,
    data: Data = None,
) -> None:
    """List what was asked of this data directory, oldest first; it is not verified by that."""
    settings = settings_of(data)
    after = _day(since, settings) if since else 0
    for entry in entries(settings.data):
        if entry.at < after or (patient and patient not in entry.patients):
            continue
        if user and user not in (entry.user, entry.client):
            continue
        if not events:
            print(text(entry))
            continue
        for event in audit_events(entry, settings.base_url + FHIR):
            if not patient or f"Patient/{patient}" in (_what(e) for e in event["entity"]):
                print(dumps(event).decode())


@audit.command()
def report(
    since: Annotated[str, typer.Option(help="First day; default: 30 days ago.")] = "",
    until: Annotated[str, typer.Option(help="Last day; default: today.")] = "",
    begin: Annotated[str, typer.Option(help="When working hours begin.")] = "07:00",
    finish: Annotated[str, typer.Option(help="When they end.")] = "20:00",
    patients: Annotated[int, typer.Option(help="Patients of one user in a day.", min=1)] = 100,
    json: Annotated[bool, typer.Option("--json", help="As JSON, one finding a line.")] = False,
    data: Data = None,
) -> None:
    """Unauthorised access: failed logins, refusals, odd hours, break-glass, many patients."""
    settings = settings_of(data)
    zone = ZoneInfo(settings.time_zone)
    try:
        low, high = window(since or None, until or None, micros(), zone)
        hours = time.fromisoformat(begin), time.fromisoformat(finish)
    except (ValueError, BadRequest) as error:
        raise SettingsError(str(error)) from None
    made = AccessReport(Rules(zone, *hours, patients))
    made.take(entry for entry in entries(settings.data) if low <= entry.at < high)
    found = made.findings()
    if json:
        for one in found:
            print(dumps(one.members()).decode())
        return
    print(f"{made.lines:,} lines, {len(found):,} findings")
    if found:
        print(table(found))


def entries(data: Path) -> Iterator[Entry]:
    """The lines of all chains, one chain after the other."""
    for path in sorted((data / FOLDER).glob("*" + SUFFIX)):
        for line in lines(path):
            if line.content is not None and "interaction" in line.content:
                yield msgspec.convert(line.content, Entry)


def text(entry: Entry) -> str:
    """One line for people: when, who, what, about whom, and how it went."""
    who = f"{entry.user} by {entry.client}" if entry.user else entry.client or "nobody"
    what = entry.what or entry.url.decode("ascii", "replace")
    parts = [format_instant(entry.at), who, entry.interaction, what, str(entry.status)]
    parts += [entry.purpose, entry.why, " ".join(f"Patient/{id_}" for id_ in entry.patients)]
    return "  ".join(part for part in parts if part)


def _what(entity: dict[str, dict[str, str]]) -> str | None:
    return entity.get("what", {}).get("reference")


def _day(given: str, settings: Settings) -> int:
    try:
        day = date.fromisoformat(given)
    except ValueError:
        raise SettingsError(f"{given!r} is not a date") from None
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(settings.time_zone))
    return int(start.astimezone(UTC).timestamp() * 1_000_000)
