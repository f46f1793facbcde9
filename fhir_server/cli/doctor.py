"""``vehr doctor``: is everything in order? Looks only, beside a running server or without one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.access.audit.verify import verify
from fhir_server.access.contents import CONTENT, blob_of
from fhir_server.access.ports import Damaged, Examination, Look, rewritten
from fhir_server.app import Domain, opened
from fhir_server.cli.recorded import noted
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.model.problem import Problem
from fhir_server.model.resource import Key
from operations.deidentification import deidentification

LEAST_FREE: Final = 512 * 2**20
"""Bytes; a commit and its log must always find room."""
LEAST_SHARE: Final = 0.02

Tell = Callable[[int, int], None]


def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Compare the whole index, not a sample.")
    ] = False,
    scrub: Annotated[
        bool,
        typer.Option(
            "--scrub", help="Open every body of every version and every blob; verify the trail."
        ),
    ] = False,
    rewrite: Annotated[
        bool,
        typer.Option(
            "--rewrite",
            help="First write the database anew (no server may run): nothing of what was erased"
            " is left in unused parts of it, also beyond 2 GiB.",
        ),
    ] = False,
    data: Data = None,
) -> None:
    """Check the data directory, the database, the index and the definitions; 1 if not well."""
    settings = lasting(settings_of(data))
    if rewrite:
        print(written_anew(settings))
    well = asyncio.run(examined(settings, full=full, scrub=scrub))
    if not well:
        raise typer.Exit(1)


def written_anew(settings: Settings) -> str:
    """What came of it. SettingsError if the database is not the embedded one."""
    if settings.on_mongodb:
        raise SettingsError("--rewrite is for the embedded database: MongoDB looks after its files")
    done = rewritten(settings.data)
    asyncio.run(noted(settings, "rewrite", "", lambda: None))
    return f"ok    rewrite: {done.before:,} bytes became {done.after:,}"


async def examined(settings: Settings, *, full: bool, scrub: bool) -> bool:
    """Prints every look; whether all are well."""
    well = True
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking", total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        async for look in looks(settings, full=full, scrub=scrub, tell=tell):
            well = well and look.well
            mark = "ok  " if look.well else "FAIL"
            first, *rest = look.text.split("\n")
            progress.console.file.flush()
            print(f"{mark}  {look.name}: {first}", *rest, sep="\n      ")
    return well


def keys(settings: Settings) -> Look:
    """Those of de-identification are where the vault needs them."""
    deid = deidentification(settings)
    try:
        known = len(deid.keys.known())
        deid.vault.check()
    except Problem as problem:
        return Look("keys", False, f"{deid.keys.path}: {problem}")
    return Look("keys", True, f"{known:,} of de-identification" if known else "none yet")


async def looks(settings: Settings, *, full: bool, scrub: bool, tell: Tell) -> AsyncIterator[Look]:
    """One after the other; what makes no sense after a failure is left out."""
    if settings.on_mongodb:
        async for look in remote(settings, scrub=scrub):
            yield look
        return
    yield (there := directory(settings.data))
    if not there.well:
        return
    yield disk(settings.data)
    yield keys(settings)
    try:
        examination = Examination(settings.data)
    except sqlite3.Error as error:
        yield Look("database", False, f"cannot be opened: {error}")
        return
    try:
        if examination.version == 0:
            yield Look("database", True, "nothing is stored yet")
            return
        yield (known := examination.schema())
        if known.well:
            yield examination.integrity()
            yield examination.counters()
            async for look in deep(settings, examination, full=full, scrub=scrub, tell=tell):
                yield look
    except (sqlite3.Error, Problem) as error:
        yield Look("database", False, str(error))
    finally:
        examination.close()


async def remote(settings: Settings, *, scrub: bool) -> AsyncIterator[Look]:
    """A store that is a server of its own and looks after its files itself."""
    try:
        async with opened(settings) as domain:
            found, counts = await domain.store.trouble(), await domain.store.counts()
            yield Look("database", found is None, found or f"{sum(counts.values()):,} resources")
            yield definitions(domain)
            yield keys(settings)
            if scrub:
                yield await blobs(domain)
                yield await trail(domain)
    except Problem as error:
        yield Look("database", False, str(error))


async def deep(
    settings: Settings, examination: Examination, *, full: bool, scrub: bool, tell: Tell
) -> AsyncIterator[Look]:
    """What needs the definitions."""
    if scrub:
        yield examination.scrub(tell)
    async with opened(settings) as domain:
        yield definitions(domain)
        schema, sample = domain.searching.schema, None if full else SAMPLE
        for look in examination.index(
            domain.engine.extract, sample, lambda type_: schema.of(type_).unindexed
        ):
            yield look
        if scrub:
            yield await blobs(domain)
            yield await trail(domain)


SAMPLE: Final = 1_000


def directory(path: Path) -> Look:
    """There, readable, writable, and nobody else's."""
    if not path.is_dir():
        return Look("directory", False, f"{path} is not there")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Look("directory", False, f"{path} cannot be read and written")
    if not any(path.glob("*.sqlite")):
        return Look("directory", False, f"{path} holds no database")
    public = path.stat().st_mode & 0o007
    return Look("directory", True, f"{path}{', open to every user here' if public else ''}")


def disk(path: Path) -> Look:
    usage = shutil.disk_usage(path)
    share = usage.free / usage.total
    text = f"{usage.free / 2**30:.1f} GiB free ({share:.0%})"
    return Look("disk", usage.free >= LEAST_FREE and share >= LEAST_SHARE, text)


def definitions(domain: Domain) -> Look:
    """FHIR's own compile; every posted SearchParameter is in force, and indexed or not."""
    schema = domain.searching.schema
    count = sum(len(schema.of(type_).parameters) for type_ in schema.types)
    waiting = sorted(f"{type_}:{c}" for type_ in schema.types for c in schema.of(type_).unindexed)
    text = f"FHIR {domain.definitions.version}, {count:,} search parameters"
    if waiting:
        text += f"\nnot indexed yet (vehr reindex): {', '.join(waiting[:20])}"
    refused = domain.engine.parameters.refused if domain.engine.parameters else ()
    return Look("definitions", not refused, "\n".join((text, *refused)))


async def blobs(domain: Domain) -> Look:
    """Every content that a version names is there and as it was stored."""
    wrong: list[str] = []
    rows = await domain.store.ledger.scan(CONTENT)
    for row in rows:
        type_, id_, version = row.key.split("/")
        blob = await blob_of(domain.store.ledger, Key(type_, id_), int(version))
        if blob is None or domain.engine.blobs is None:
            continue
        try:
            await domain.engine.blobs.read(blob)
        except Damaged as damaged:
            wrong.append(f"{type_}/{id_} version {version}: {damaged}")
    return Look("blobs", not wrong, "\n".join(wrong[:20]) or f"{len(rows):,} are sound")


async def trail(domain: Domain) -> Look:
    """The audit trail, as ``vehr audit verify`` sees it."""
    report = await verify(domain.settings.data, domain.store.ledger)
    text = f"{report.lines:,} lines in {report.chains:,} chains are as they were written"
    return Look("audit", not report.faults, "\n".join(report.faults[:20]) or text)
