"""``vehr audit``: is the trail whole, and what does it say?"""

from __future__ import annotations

import asyncio

import typer

from fhir_server.access.audit.verify import Report, verify
from fhir_server.app import opened
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings

audit = typer.Typer(help="The audit trail: verify.", no_args_is_help=True)


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
