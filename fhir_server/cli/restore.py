"""``vehr restore``: a backup becomes the data of a server that does not run yet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.access.ports import ArchiveError, EraseLogError, Restored, SealError
from fhir_server.cli.archives import use_backup
from fhir_server.cli.backup import KeyFile
from fhir_server.cli.recorded import noted
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import SettingsError

Place = Annotated[Path, typer.Argument(help="What vehr backup has made.")]
Erased = Annotated[
    Path | None,
    typer.Option("--erased", help="A further erase log (*.erased.ndjson).", show_default=False),
]


def restore(
    place: Place, erased: Erased = None, key_file: KeyFile = None, data: Data = None
) -> None:
    """Restore a backup into an empty data directory. Tokens and jobs do not come back, nor does
    what was erased after the backup, by the erase log beside the data directory.
    """
    settings = lasting(settings_of(data))
    if key_file is not None:
        settings = replace(settings, backup_key=key_file)
    if erased is not None and not erased.is_file():
        raise SettingsError(f"there is no erase log {erased}")
    logs = [path for path in (settings.erased, erased) if path is not None and path.is_file()]
    try:
        done = use_backup(settings, place, erased)
    except (ArchiveError, EraseLogError, SealError) as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"the restore failed: {error.strerror}") from None
    asyncio.run(noted(settings, "restore", place.name, lambda: None))
    print(f"{sum(done.manifest.counts.values()):,} resources as of {done.manifest.taken}")
    print(said(done, logs, settings.erased))


def said(done: Restored, logs: list[Path], usual: Path) -> str:
    """What the erase logs came to."""
    if not logs:
        return f"no erase log: what was erased since the backup is back ({usual} is not there)"
    again = done.reapplied
    lines = [
        f"{again.resources:,} resources and {again.versions:,} versions stay erased"
        f" by {', '.join(map(str, logs))}"
    ]
    lines += [
        f"{name} was erased when it was old and is current here: look at it"
        for name in again.current
    ]
    return "\n".join(lines)
