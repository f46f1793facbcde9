"""``vehr keys``: the keys that sign id_tokens."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import typer

from fhir_server.auth.keys import Keys
from fhir_server.cli.recorded import noted
from fhir_server.cli.settings import Data, lasting, settings_of

keys = typer.Typer(help="Keys: rotate, reseal, list.", no_args_is_help=True)


@keys.command()
def rotate(data: Data = None) -> None:
    """Sign with a new key from now on; the old one stays published for a day."""
    settings = lasting(settings_of(data))
    keys = Keys(settings.data, time.time)
    print(asyncio.run(noted(settings, "keys", "rotate", keys.rotate)))


@keys.command()
def reseal(data: Data = None) -> None:
    """Replace the secret behind pages and derived tokens; the one before is still understood.

    Twice: nothing that was sealed until now is.
    """
    settings = lasting(settings_of(data))
    keys = Keys(settings.data, time.time)
    asyncio.run(noted(settings, "keys", "reseal", keys.reseal))
    print("replaced the sealing secret")


@keys.command("list")
def list_(data: Data = None) -> None:
    """Ids of the published keys, the signing one first."""
    for kid, created in Keys(lasting(settings_of(data)).data, time.time).known():
        print(f"{kid}  {datetime.fromtimestamp(created, UTC):%Y-%m-%dT%H:%MZ}")
