"""``vehr codes``: code systems of the terminology service."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.access.concepts import publish
from fhir_server.app import opened
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from terminology.importers.formats import READERS, build
from terminology.importers.release import Wanted
from terminology.service import Refused

codes = typer.Typer(no_args_is_help=True, help="Code systems of the terminology service.")


@codes.command("import")
def import_(
    release: Annotated[Path, typer.Argument(help="Folder, ZIP archive or file.", exists=True)],
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(READERS)}.")],
    url: Annotated[str, typer.Option(help="The code system, if the release does not say.")] = "",
    version: Annotated[str, typer.Option(help="Its version, if the release does not say.")] = "",
    data: Data = None,
) -> None:
    """Import a release; its concepts can then be looked up, expanded and validated against."""
    if format_ not in READERS:
        raise SettingsError(f"--format is one of {', '.join(READERS)}")
    settings = lasting(settings_of(data))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def tell(count: int) -> None:
            progress.update(task, completed=count, description=f"{count:,} concepts")

        with tempfile.TemporaryDirectory(prefix="vehr-") as folder:
            target = Path(folder, "concepts")
            try:
                found, count = build(format_, release, Wanted(url, version), target, tell)
            except Refused as refused:
                raise SettingsError(refused.text) from refused
            progress.update(task, description="storing")
            place = asyncio.run(_stored(settings, found, target, count, release.name))
    named = f"{found['url']}|{found['version']}" if "version" in found else found["url"]
    print(f"{count:,} concepts of {named}: {place}")


async def _stored(
    settings: Settings, found: dict[str, object], target: Path, count: int, release: str
) -> str:
    async with opened(settings) as domain, recorded(domain, "import-codes", target=release):
        stored = await publish(domain.system_session("codes"), found, target, count)
    return str(stored.key)
