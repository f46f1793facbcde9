"""Backups of the data of these settings, and their return."""

from __future__ import annotations

from pathlib import Path

from fhir_server.access.audit.backup import Trail
from fhir_server.access.ports import (
    SEARCH,
    EraseLog,
    Manifest,
    Restored,
    back_up,
    read_key,
    restore,
)
from fhir_server.app import micros, software_version
from fhir_server.auth.identities import TRANSIENT
from fhir_server.config import Settings
from fhir_server.jobs.queue import KIND as JOB
from fhir_server.jobs.queue import SLOT
from fhir_server.model.datatypes import format_instant


def take_backup(settings: Settings, place: Path) -> Manifest:
    """Raises ArchiveError and SealError."""
    taken = format_instant(micros())
    trail = Trail(settings.data)
    return back_up(settings.data, place, software_version(), taken, _key(settings), trail)


def _key(settings: Settings) -> bytes | None:
    return None if settings.backup_key is None else read_key(settings.backup_key)


def use_backup(settings: Settings, place: Path, erased: Path | None = None) -> Restored:
    """Without its tokens and sessions, some of which may have ended since, its jobs, whose files
    are not in it, the index of a search engine, which another server may be using, and what was
    erased since: by the erase log of these settings and by ``erased``.
    Raises ArchiveError, EraseLogError and SealError.
    """
    own = EraseLog(settings.erased)
    known = own.entries()
    further = EraseLog(erased).entries() if erased is not None else []
    entries, left = [*known, *further], (*TRANSIENT, JOB, SLOT, *SEARCH)
    done = restore(place, settings.data, left, entries, _key(settings))
    own.append(entry for entry in further if entry not in known)
    return done
