"""``vehr load``: FHIR files into the record."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fhir_server.app import opened
from fhir_server.cli.loading import Loader, Report
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.cli.sources import documents, files
from fhir_server.config import Settings

SHOWN_FAILURES: Final = 50


def load(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Bundles, resources, NDJSON, .gz of them, folders.", show_default=False
        ),
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what REST would refuse; mend nothing.")
    ] = False,
    data: Data = None,
) -> None:
    """Load Bundles and resources; safe to run again."""
    files(paths)  # names a path that is not there before anything is opened
    settings = lasting(settings_of(data))
    console = Console(stderr=True)
    started = time.monotonic()
    report = asyncio.run(run(settings, paths, console, strict=strict))
    show(report, time.monotonic() - started)
    if report.failed:
        raise typer.Exit(1)


async def run(
    settings: Settings, paths: list[Path], console: Console, *, strict: bool = False
) -> Report:
    """Load files one after the other, with a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[stored]:>9,} resources"),
        TextColumn("{task.fields[rate]:>7,.0f}/s"),
        TimeElapsedColumn(),
    )
    found = files(paths)
    names = " ".join(path.name for path in paths)
    async with opened(settings) as domain, recorded(domain, "load", target=names):
        loader = Loader(domain, strict=strict)
        with Progress(*columns, console=console, transient=True) as progress:
            size = sum(path.stat().st_size for path in found)
            task = progress.add_task("loading", total=size, stored=0, rate=0)
            started = time.monotonic()
            for path in found:
                progress.update(task, description=path.name[:40])
                for document in documents(path, lambda count: progress.advance(task, count)):
                    met = document.line == 0 and path not in paths
                    await loader.take(replace(document, met=met))
                    stored = loader.report.stored.total()
                    rate = stored / (time.monotonic() - started)
                    progress.update(task, stored=stored, rate=rate)
            await loader.finish()
        return loader.report


def show(report: Report, seconds: float) -> None:
    """The counts per type, then what failed and why."""
    total = report.stored.total()
    for type_, count in sorted(report.stored.items()):
        print(f"{count:>9,} {type_}")
    rate = total / seconds if seconds else 0
    print(f"{total:>9,} stored in {seconds:.1f} s ({rate:,.0f}/s), {report.unchanged:,} known")
    for line in report.notes.lines():
        print(line)
    for place in report.skipped:
        print(f"skipped {place}: not a FHIR resource")
    for place, reason in report.failed[:SHOWN_FAILURES]:
        print(f"failed {place}: {reason}")
    if len(report.failed) > SHOWN_FAILURES:
        print(f"failed: {len(report.failed) - SHOWN_FAILURES:,} more")
