"""``vehr demo``: synthetic patients into an empty record, and lines to paste."""

from __future__ import annotations

import asyncio
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from fhir_server.app import opened
from fhir_server.cli.demo_people import add_people, logins
from fhir_server.cli.load import run
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.cli.token import SYSTEM, issue
from fhir_server.config import Settings
from operations.models.assembly import models_of
from operations.models.publishing import publish

PATIENT: Final = "pt-9f499e932ad8"
"""A demo patient whose record has what the risk models need."""

HOURS: Final = 12


def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 8080,
    data: Data = None,
) -> None:
    """Load the demo patients if nothing is stored yet, and print a token and curl lines."""
    settings = lasting(settings_of(data, f"http://127.0.0.1:{port}"))
    if asyncio.run(is_empty(settings)):
        with resources.as_file(resources.files("fhir_server") / "demo") as folder:
            loaded = asyncio.run(run(settings, sorted(Path(folder).glob("*.ndjson.gz")), _CONSOLE))
        print(f"Loaded {loaded.stored.total():,} resources of synthetic patients.")
        asyncio.run(populate(settings))
    token = asyncio.run(issue(settings, SYSTEM, HOURS * 60, ("demo", "", "")))
    print(greeting(settings.base_url, token, logins(settings.data)))


async def is_empty(settings: Settings) -> bool:
    """Whether nothing is stored."""
    async with opened(settings) as domain:
        return not await domain.store.counts()


async def populate(settings: Settings) -> None:
    """The people who sign in, and the Devices of the models with their cards."""
    async with opened(settings) as domain, recorded(domain, "demo", target="people"):
        await add_people(domain.identities, settings.data)
        models = models_of(domain.settings, domain.engine, domain.indexes)
        try:
            await publish(models.registry, models.own)
        finally:
            await models.close()


def greeting(base: str, token: str, people: list[tuple[str, str]]) -> str:
    """Where to sign in, and what to paste into a shell once the server runs."""
    known = "".join(f"\n    {name:<8} {password}" for name, password in people)
    signing_in = f"\n  Sign in             {base}/auth{known}" if known else ""
    ask = f'curl -s -H "Authorization: Bearer $TOKEN" \'{base}/fhir'
    return f"""{signing_in}
  API documentation  {base}/docs
  CapabilityStatement {base}/fhir/metadata
  A token for {HOURS} hours, for everything in this record:

TOKEN={token}
{ask}/Patient?_count=3'
{ask}/Observation?patient={PATIENT}&code=http://loinc.org|2093-3&_sort=-date'
{ask}/Patient/{PATIENT}/$predict?model=prevent'
{ask}/Patient/{PATIENT}/$anonymize'
"""


_CONSOLE: Final = Console(stderr=True)
