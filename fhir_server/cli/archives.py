"""Backups of the data of these settings, and their return.

An archive holds an embedded database and its contents. What is kept elsewhere (MongoDB, an object
store) is copied into that form first, as of one point, and from it when it returns; so a backup
of any store restores into any other.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fhir_server.access.audit.backup import Trail
from fhir_server.access.audit.log import FOLDER as AUDIT
from fhir_server.access.ports import (
    SEARCH,
    ArchiveError,
    EraseLog,
    Manifest,
    Moved,
    MoveError,
    Place,
    Restored,
    back_up,
    copy,
    read_key,
    restore,
)
from fhir_server.app import micros, software_version
from fhir_server.auth.identities import TRANSIENT
from fhir_server.config import Settings
from fhir_server.jobs.queue import KIND as JOB
from fhir_server.jobs.queue import SLOT
from fhir_server.model.datatypes import format_instant

LEFT: Final = (*TRANSIENT, JOB, SLOT, *SEARCH)
"""Kinds of ledger rows that no copy and no restored backup has: what they allow may have been
withdrawn since; the index of a search engine may be in use by another server."""
STAGE: Final = "backup.copy"
"""In the data directory: the embedded form of what is kept elsewhere."""


def take_backup(settings: Settings, place: Path) -> Manifest:
    """Raises ArchiveError, SealError and Unavailable."""
    key = _key(settings)
    trail = Trail(settings.data)
    if not _elsewhere(settings):
        return back_up(settings.data, place, software_version(), _now(), key, trail)
    if place.exists():
        raise ArchiveError(f"{place} is there already: a backup does not overwrite")
    with _stage(settings) as stage:
        taken = _now()
        _copied((_url(settings), f"sqlite:{stage}"), (_contents(settings), None), settings)
        if (settings.data / AUDIT).is_dir():
            (stage / AUDIT).symlink_to((settings.data / AUDIT).absolute())
        return back_up(stage, place, software_version(), taken, key, trail)


def _now() -> str:
    return format_instant(micros())


def _key(settings: Settings) -> bytes | None:
    return None if settings.backup_key is None else read_key(settings.backup_key)


def _elsewhere(settings: Settings) -> bool:
    """Whether something is kept outside of the data directory."""
    return settings.on_mongodb or settings.blobs is not None


def _url(settings: Settings) -> str:
    return settings.store if settings.on_mongodb else f"sqlite:{settings.data}"


def _contents(settings: Settings) -> Place:
    return settings.blobs or settings.data / "blobs"


def _copied(
    urls: tuple[str, str], contents: tuple[Place | None, Place | None], settings: Settings
) -> Moved:
    spool = settings.data.with_name(settings.data.name + ".spool")
    work = copy(urls, contents, LEFT, spool, lambda *_: None)
    try:
        # A loop of its own: the command that asks may be running on one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, work).result()
    except MoveError as error:
        raise ArchiveError(str(error)) from None
    finally:
        shutil.rmtree(spool, ignore_errors=True)


@contextmanager
def _stage(settings: Settings) -> Iterator[Path]:
    """A folder for one backup at a time; what a killed one has left is removed."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    stage = settings.data / STAGE
    with (settings.data / "backup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError("another backup is running") from None
        try:
            _cleared(stage)
            yield stage
        finally:
            _cleared(stage)


def _cleared(stage: Path) -> None:
    for path in (stage, stage.with_name(stage.name + ".part")):
        shutil.rmtree(path, ignore_errors=True)


def use_backup(settings: Settings, place: Path, erased: Path | None = None) -> Restored:
    """Without its tokens and sessions, some of which may have ended since, its jobs, whose files
    are not in it, and what was erased since: by the erase log of these settings and by ``erased``.
    Raises ArchiveError, EraseLogError, SealError and Unavailable.
    """
    own = EraseLog(settings.erased)
    known = own.entries()
    further = EraseLog(erased).entries() if erased is not None else []
    entries, key = [*known, *further], _key(settings)
    if _elsewhere(settings):
        stage = settings.data.with_name(settings.data.name + ".restore")
        _cleared(stage)
        done = restore(place, stage, LEFT, entries, key)
        _returned(stage, settings)
    else:
        done = restore(place, settings.data, LEFT, entries, key)
    own.append(entry for entry in further if entry not in known)
    return done


def _returned(stage: Path, settings: Settings) -> None:
    """A restore that was killed may be run again: it goes on."""
    try:
        _copied((f"sqlite:{stage}", _url(settings)), (None, _contents(settings)), settings)
        trail, target = stage / AUDIT, settings.data / AUDIT
        if trail.is_dir() and not target.exists():
            settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copytree(trail, target)
    finally:
        _cleared(stage)
