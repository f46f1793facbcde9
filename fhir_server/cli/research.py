"""``vehr research``: the clinical data bank, filled from the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.app import Domain, bank_of, opened
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem
from operations.deid.text.assembly import text_cleaner
from operations.deidentification import deidentification
from operations.models.assembly import models_of
from operations.research.sync import LINEAGE, Outcome, Tell, sync

research = typer.Typer(name="research", help="The data bank for research: sync, status.",
                       no_args_is_help=True)  # fmt: skip


@research.command("sync")
def sync_(
    full: Annotated[bool, typer.Option("--full", help="Take every patient in anew.")] = False,
    data: Data = None,
) -> None:
    """Bring the data bank to what patients permit now; beside a running server or without one."""
    settings = lasting(settings_of(data))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("patients", total=None)

        def tell(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        try:
            outcome = asyncio.run(run(settings, tell, full=full))
        except Problem as problem:
            raise SettingsError(str(problem)) from None
    print(f"run {outcome.number}: {outcome.held:,} patients in the data bank")
    print(f"{outcome.added:>9,} taken in")
    print(f"{outcome.renewed:>9,} taken in again")
    print(f"{outcome.removed:>9,} taken out")
    for reason, counts in sorted(outcome.quality.left.items()):
        print(f"{sum(counts.values()):>9,} resources left out: {reason}")


@research.command("status")
def status(data: Data = None) -> None:
    """The last runs."""
    for row in asyncio.run(_runs(lasting(settings_of(data)))):
        counts = ", ".join(f"{count} {name}" for name, count in row["patients"].items())
        print(f"run {row['number']}  {row['ended']}  {row['profile']}  {counts}")


async def run(settings: Settings, tell: Tell, *, full: bool) -> Outcome:
    async with (
        opened(settings) as domain,
        cleaning(domain),
        bank_of(domain) as (_, bank),
        recorded(domain, "research sync", target="research"),
    ):
        return await sync(bank, full=full, tell=tell)


@asynccontextmanager
async def cleaning(domain: Domain) -> AsyncIterator[None]:
    """Meanwhile free text is cleaned, as a server does it, instead of dropped."""
    models = models_of(domain.settings, domain.engine, domain.indexes)
    deid = deidentification(domain.settings)
    former, deid.cleaner = deid.cleaner, text_cleaner(models.registry)
    try:
        yield
    finally:
        deid.cleaner = former
        await models.close()


async def _runs(settings: Settings) -> list[Json]:
    async with opened(settings) as domain, bank_of(domain) as (there, _):
        return [row.value for row in await there.store.ledger.scan(LINEAGE)]
