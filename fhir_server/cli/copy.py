"""``vehr copy``: a whole store, with its history, becomes another one of any kind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.access.ports import Moved, MoveError, Place, Tell
from fhir_server.access.ports import copy as copied
from fhir_server.cli.archives import LEFT
from fhir_server.cli.recorded import noted
from fhir_server.cli.settings import settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.config_values import as_bucket, as_path

URL = "sqlite:DIRECTORY or mongodb://HOST/NAME"
From = Annotated[str, typer.Option("--from", help=f"{URL}; it may be in use.", show_default=False)]
To = Annotated[str, typer.Option("--to", help=f"{URL}; it must be empty.", show_default=False)]
Contents = "A folder or s3://BUCKET/PREFIX; default: with the store (MongoDB: VEHR_BLOBS)."
FromBlobs = Annotated[str, typer.Option("--from-blobs", help=Contents, show_default=False)]
ToBlobs = Annotated[str, typer.Option("--to-blobs", help=Contents, show_default=False)]


def copy(from_: From, to: To, from_blobs: FromBlobs = "", to_blobs: ToBlobs = "") -> None:
    """Copy a store with every version, id, date and order, its users, clients, relationships and
    erase log. Run it again after it was stopped: it goes on where it was. Tokens, sessions and
    jobs stay behind, and so do files of the data directory: signing keys and the audit trail.
    """
    urls = _url("--from", from_), _url("--to", to)
    places = _place("--from-blobs", from_blobs, urls[0]), _place("--to-blobs", to_blobs, urls[1])
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as progress:
        try:
            moved = asyncio.run(_copied(urls, places, progress))
            asyncio.run(noted(_source(urls[0]), "copy", _plain(urls[1]), lambda: None))
        except MoveError as error:
            raise SettingsError(str(error)) from None
    print(said(moved))


async def _copied(
    urls: tuple[str, str], places: tuple[Place | None, Place | None], progress: Progress
) -> Moved:
    spool = settings_of().data / "spool"
    return await copied(urls, places, LEFT, spool, telling(progress))


def _source(url: str) -> Settings:
    """The settings of what was copied: its trail says so."""
    settings = settings_of()
    if url.startswith("sqlite:"):
        return replace(settings, data=Path(url.removeprefix("sqlite:")), store="sqlite:")
    return replace(settings, store=url)


def _plain(url: str) -> str:
    """Where it went, without who may go there."""
    if url.startswith("sqlite:"):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def telling(progress: Progress) -> Tell:
    """A bar for each thing that is done."""
    bars = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = progress.add_task(what, total=total or None)
        progress.update(bars[what], completed=done)

    return tell


def said(moved: Moved) -> str:
    lines = [f"{'type':<30} {'versions':>12} {'current':>12}"]
    for type_, versions in sorted(moved.versions.items()):
        lines.append(f"{type_:<30} {versions:>12,} {moved.live[type_]:>12,}")
    whole = sum(moved.versions.values()), sum(moved.live.values())
    lines.append(f"{'in all':<30} {whole[0]:>12,} {whole[1]:>12,}")
    resumed = f", continued from position {moved.resumed:,}" if moved.resumed else ""
    lines.append(
        f"{moved.rows:,} rows of the ledger, {moved.blobs:,} contents, as of position"
        f" {moved.point.seq:,}{resumed}; counts and digests of both sides agree"
    )
    return "\n".join(lines)


def _url(option: str, value: str) -> str:
    path = value.removeprefix("sqlite:")
    if path != value and path:
        return "sqlite:" + str(Path(path).expanduser().absolute())
    if value.startswith(("mongodb://", "mongodb+srv://")):
        return value
    raise SettingsError(f"{option}: must be {URL}")


def _place(option: str, value: str, url: str) -> Place | None:
    """None: beside the database."""
    settings = settings_of()
    try:
        if value:
            return as_bucket(value) if value.startswith("s3:") else as_path(value)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None
    own = settings.data.absolute()
    if url.startswith("sqlite:") and url != f"sqlite:{own}":
        return None
    return settings.blobs or (None if url.startswith("sqlite:") else own / "blobs")
