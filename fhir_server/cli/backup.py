"""``vehr backup``: a consistent copy of the data, also while the server runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.access.ports import ArchiveError, SealError
from fhir_server.cli.archives import take_backup
from fhir_server.cli.recorded import noted
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import SettingsError

Place = Annotated[Path, typer.Argument(help="A new folder, or a new file that ends in .tar.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help="64 hexadecimal digits (VEHR_BACKUP_KEY).", show_default=False),
]


def backup(place: Place, key_file: KeyFile = None, data: Data = None) -> None:
    """Back up the data. Without a key the backup is not encrypted: keep it where the data may
    lie. With one it is a single encrypted file.
    """
    settings = lasting(settings_of(data))
    if key_file is not None:
        settings = replace(settings, backup_key=key_file)
    try:
        work = noted(settings, "backup", place.name, lambda: take_backup(settings, place))
        manifest = asyncio.run(work)
    except (ArchiveError, SealError) as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"the backup failed: {error.strerror}") from None
    resources, size = sum(manifest.counts.values()), sum(f.size for f in manifest.files)
    how = ", encrypted" if settings.backup_key is not None else ""
    print(f"{resources:,} resources, {len(manifest.files):,} files, {size:,} bytes: {place}{how}")
