"""``vehr restore``: a backup becomes the data of a server that does not run yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.app import ArchiveError, use_backup
from fhir_server.cli.settings import Data, embedded, settings_of
from fhir_server.config import SettingsError

Place = Annotated[Path, typer.Argument(help="What vehr backup has made.")]


def restore(place: Place, data: Data = None) -> None:
    """Restore a backup into an empty data directory. Tokens and jobs do not come back."""
    settings = embedded(settings_of(data))
    try:
        manifest = use_backup(settings, place)
    except ArchiveError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"the restore failed: {error.strerror}") from None
    print(f"{sum(manifest.counts.values()):,} resources as of {manifest.taken}")
