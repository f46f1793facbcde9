"""The operations of de-identification, and what they share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from operations.anonymize import anonymize_operation
from operations.deid.assembly import Deidentification
from operations.deid.keys import KeyRing
from operations.deid.shelf import Shelf
from operations.deid.text.contract import TextCleaner
from operations.deid.vault import Vault
from operations.registry import Operation


class Places(Protocol):
    """Where the settings have it."""

    @property
    def deid_folder(self) -> Path: ...

    @property
    def deid_key_file(self) -> Path: ...


def deidentification(places: Places, cleaner: TextCleaner | None = None) -> Deidentification:
    """Of a server, or of a command."""
    keys = KeyRing(places.deid_key_file, time.time)
    folder = places.deid_folder
    vault = Vault(folder / "vault.sqlite", keys.vault)
    return Deidentification(Shelf(folder / "profiles"), keys, vault, cleaner)


def deidentification_operations(deid: Deidentification) -> tuple[Operation, ...]:
    """The rows."""
    return (anonymize_operation(deid),)
