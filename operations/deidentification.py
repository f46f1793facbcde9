"""The operations of de-identification, and what they share."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Protocol

from fhir_server.access.session import Session
from fhir_server.jobs.queue import Queue
from operations.anonymize import anonymize_operation
from operations.anonymize_group import anonymize_group
from operations.bulk.wanted import Exports
from operations.deid.assembly import Deidentification
from operations.deid.keys import KeyRing
from operations.deid.shelf import Shelf
from operations.deid.text.contract import TextCleaner
from operations.deid.vault import Vault
from operations.deid_profiles import profile_operations
from operations.registry import Operation
from operations.reidentify import reidentify_operation
from operations.risk_report import risk_operation


class Places(Protocol):
    """Where the settings have it."""

    @property
    def deid_folder(self) -> Path: ...

    @property
    def deid_key_file(self) -> Path: ...


def deidentification(places: Places, cleaner: TextCleaner | None = None) -> Deidentification:
    """Of a server, or of a command; the same for the same places. ``cleaner``: of free text from
    now on; without one ever given free text is dropped."""
    found = _at(places.deid_folder.absolute(), places.deid_key_file.absolute())
    found.cleaner = cleaner or found.cleaner
    return found


@cache
def _at(folder: Path, key_file: Path) -> Deidentification:
    vault_file = folder / "vault.sqlite"
    keys = KeyRing(key_file, time.time, vault_file)
    vault = Vault(vault_file, keys.vault)
    return Deidentification(Shelf(folder / "profiles"), keys, vault)


def deidentification_operations(
    deid: Deidentification, exports: Exports, queue: Queue, own: Session
) -> tuple[Operation, ...]:
    """The rows. ``own``: the server's session for re-identification and profiles."""
    return (
        anonymize_group(exports, queue),
        anonymize_operation(deid),
        *profile_operations(deid, own),
        reidentify_operation(deid, own),
        risk_operation(deid),
    )
