"""Backups of the data of these settings, and their return."""

from __future__ import annotations

from pathlib import Path

from fhir_server.access.ports import EraseLog, Manifest, Restored, back_up, restore
from fhir_server.app import micros, software_version
from fhir_server.auth.identities import TRANSIENT
from fhir_server.config import Settings
from fhir_server.jobs.queue import KIND as JOB
from fhir_server.jobs.queue import SLOT
from fhir_server.model.datatypes import format_instant


def take_backup(settings: Settings, place: Path) -> Manifest:
    """Raises ArchiveError."""
    return back_up(settings.data, place, software_version(), format_instant(micros()))


def use_backup(settings: Settings, place: Path, erased: Path | None = None) -> Restored:
    """Without its tokens and sessions, some of which may have ended since, its jobs, whose files
    are not in it, and what was erased since: by the erase log of these settings and by ``erased``.
    Raises ArchiveError and EraseLogError.
    """
    own = EraseLog(settings.erased)
    known = own.entries()
    further = EraseLog(erased).entries() if erased is not None else []
    done = restore(place, settings.data, (*TRANSIENT, JOB, SLOT), [*known, *further])
    own.append(entry for entry in further if entry not in known)
    return done
