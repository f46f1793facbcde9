"""``vehr relation``: which user cares for which patient, and how long."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from fhir_server.app import opened
from fhir_server.auth.assembly import charts_of
from fhir_server.auth.identities import Identities
from fhir_server.auth.relations import FOREVER, Relation, birthday
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.cli.user import administering, beside
from fhir_server.config import Settings, SettingsError

relation = typer.Typer(help="Care relationships: add, list, end.", no_args_is_help=True)

User = Annotated[str, typer.Option(help="The user.")]
Patient = Annotated[str, typer.Option(help="Id of the patient.")]


@relation.command()
def add(
    user: User,
    patient: Patient,
    kind: Annotated[str, typer.Option(help="registration, referral, care-team, delegate, …")],
    since: Annotated[str, typer.Option("--from", help="First day; default now.")] = "",
    until: Annotated[str, typer.Option(help="Last day; default open.")] = "",
    until_age: Annotated[
        int, typer.Option("--until-age", min=0, max=150, help="To this birthday of the patient.")
    ] = 0,
    data: Data = None,
) -> None:
    """Begin a care relationship, or change its end."""
    settings = settings_of(data)
    zone = ZoneInfo(settings.time_zone)
    start = _day(since, zone).timestamp() if since else 0.0
    end = (_day(until, zone) + timedelta(days=1)).timestamp() if until else FOREVER

    if until_age:
        end = min(end, birthday(_born(settings, patient), until_age, settings.time_zone))
    begin = start or time.time()
    made = Relation(user, patient, kind, begin, end)
    administering(settings, lambda admin: admin.add_relation(made))
    print(f"{user} cares for Patient/{patient} ({kind})")


def _born(settings: Settings, patient: str) -> str:
    async def found() -> str:
        async with opened(lasting(settings)) as domain:
            charts = charts_of(domain.system_session("relations"))
            return "".join(chart.born for chart in await charts((patient,)))

    return asyncio.run(found())


def _day(text: str, zone: ZoneInfo) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r} is not a date such as 2030-12-31") from None
    return datetime(day.year, day.month, day.day, tzinfo=zone)


@relation.command("list")
def list_(
    user: Annotated[str, typer.Option(help="Only of this user.")] = "",
    patient: Annotated[str, typer.Option(help="Only with this patient.")] = "",
    data: Data = None,
) -> None:
    """User, patient, kind, from when to when; also what has ended."""

    async def listed(identities: Identities) -> list[Relation]:
        relations = identities.relations
        return await (relations.of(user) if user else relations.all())

    for one in beside(settings_of(data), listed):
        if patient in ("", one.patient):
            span = f"{_shown(one.start)} to {_shown(one.end)}"
            print(f"{one.user:<24} Patient/{one.patient:<32} {one.kind:<14} {span}")


def _shown(moment: float) -> str:
    if moment == FOREVER:
        return "open"
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%MZ")


@relation.command()
def end(
    user: User,
    patient: Patient,
    kind: Annotated[str, typer.Option(help="Only of this kind.")] = "",
    data: Data = None,
) -> None:
    """End a care relationship now."""
    ended = administering(settings_of(data), lambda admin: admin.end_relation(user, patient, kind))
    for one in ended:
        print(f"ended {one.kind} of {one.user} with Patient/{one.patient}")
