"""``vehr backup``: a consistent copy of the data, also while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhir_server.access.ports import ArchiveError
from fhir_server.cli.archives import take_backup
from fhir_server.cli.settings import Data, embedded, settings_of
from fhir_server.config import SettingsError

Place = Annotated[Path, typer.Argument(help="A new folder, or a new file that ends in .tar.")]


def backup(place: Place, data: Data = None) -> None:
    """Back up the data. The backup is not encrypted: keep it where the data may lie."""
    settings = embedded(settings_of(data))
    try:
        manifest = take_backup(settings, place)
    except ArchiveError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"the backup failed: {error.strerror}") from None
    resources, size = sum(manifest.counts.values()), sum(f.size for f in manifest.files)
    print(f"{resources:,} resources, {len(manifest.files):,} files, {size:,} bytes: {place}")
