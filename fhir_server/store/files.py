"""Files of an archive: described by size and content, durable once they are written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

BLOCK: Final = 1 << 20
"""Bytes that are copied at a time."""


class File(msgspec.Struct, frozen=True):
    """One file. ``size`` in bytes, ``sha256`` in hexadecimal digits."""

    name: str
    size: int
    sha256: str


def described(folder: Path, name: str) -> File:
    """A file of a folder as it is."""
    path = folder / name
    return File(name, path.stat().st_size, sha256_of(path))


def sha256_of(path: Path) -> str:
    """In hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, content: bytes) -> None:
    """Durable when it returns."""
    path.write_bytes(content)
    sync(path)


def sync(path: Path) -> None:
    """A file or folder is on disk when it returns."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
