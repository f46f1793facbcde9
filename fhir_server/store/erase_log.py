"""The erase log: what was erased, when, by whom and what for; nothing of the content.

Every entry is a row of the ledger, written in one commit with its erase, and a line of a file
beside the data directory, which a restore of an older backup reads (``sqlite/reapplying.py``).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from fhir_server.model.datatypes import parse_instant
from fhir_server.store.ledger import LedgerWrite

KIND: Final = "erased"


class EraseLogError(Exception):
    """A log that cannot be read; its text is the one line that the user reads."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One erase. ``at``: an instant; ``by``: the principal; ``purpose``: a code of
    http://terminology.hl7.org/CodeSystem/v3-ActReason. ``versions`` None: the whole resource.
    """

    at: str
    type: str
    id: str
    by: str
    purpose: str = ""
    versions: list[int] | None = None

    @property
    def key(self) -> str:
        """In order of time."""
        return f"{self.at}/{self.type}/{self.id}"

    def row(self) -> LedgerWrite:
        value = msgspec.to_builtins(self)
        return LedgerWrite(KIND, self.key, value)


class EraseLog:
    """The file. Several processes may append to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entries: Iterable[Entry]) -> None:
        """Durable when it returns. Raises OSError."""
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        if not lines:
            return
        fresh = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                lines = b"\n" + lines
            while lines:
                lines = lines[os.write(file, lines) :]
            os.fsync(file)
        finally:
            os.close(file)
        if fresh:
            _sync(self.path.absolute().parent)

    def entries(self) -> list[Entry]:
        """Each once, in the order of the file; without a file there are none.

        A line that a crash has cut is passed over: what it said is repeated behind it.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found: dict[str, Entry] = {}
        for number, line in enumerate(lines, 1):
            try:
                if line:
                    entry = msgspec.json.decode(line, type=Entry)
                    parse_instant(entry.at)
                    found[entry.key] = entry
            except ValueError:
                if not is_cut(line):
                    raise EraseLogError(f"{self.path}: line {number} cannot be read") from None
        return list(found.values())


def is_cut(line: bytes) -> bool:
    """Is this the beginning of a line, as a crash leaves it?"""
    return line.startswith(b"{") and not line.endswith(b"}")


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
