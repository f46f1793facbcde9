"""One chain: a file of lines that only grows, each bound by its hash to all before it.

A line is a JSON object whose first member is ``n``, its number, and whose last is ``hash``: the
SHA-256 of the hash before it and of the line up to there. Line 0 opens the chain: its id, the
key that signs its heads, and the heads of chains before it, so that those cannot vanish.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

SUFFIX: Final = ".ndjson"
LONGEST: Final = 1_000_000
"""Bytes from the end of a file in which its last line begins."""
_HASH: Final = b',"hash":"'
_END: Final = b'"}'


class Place(NamedTuple):
    """A line of a chain and what it is bound by."""

    chain: str
    n: int
    hash: str


class Chain:
    """A chain that this process writes. Every method may raise OSError."""

    def __init__(self, folder: Path, key: str, known: Sequence[Place], at: int) -> None:
        moment = time.strftime("%Y%m%dT%H%M%S.", time.gmtime(at / 1_000_000))
        self.id = f"{moment}{at % 1_000_000:06}-{os.getpid()}-{secrets.token_hex(4)}"
        self.n = -1
        self.size = 0
        self.begun = at
        self.hash = ""
        self._path = folder / (self.id + SUFFIX)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(self._path, flags, 0o600)
        try:
            opening = {"at": at, "chain": self.id, "key": key, "known": known}
            self.append(msgspec.json.encode(opening))
            self.sync()
            _sync_folder(folder)
        except OSError:
            self._path.unlink(missing_ok=True)
            self.close()
            raise

    @property
    def head(self) -> Place:
        return Place(self.id, self.n, self.hash)

    def append(self, *contents: bytes) -> None:
        """JSON objects that are not empty, a line each, in one write. After an error, which
        leaves none of them, the chain is not to be used again.
        """
        found, n, parts = self.hash, self.n, []
        for content in contents:
            n += 1
            line = b'{"n":%d,%b' % (n, content[1:-1])
            found = bound(found, line)
            parts.append(b"%b%b%b%b\n" % (line, _HASH, found.encode(), _END))
        whole = b"".join(parts)
        try:
            if os.write(self._file, whole) != len(whole):
                raise OSError("a line was cut")
        except OSError:
            self._cut()
            raise
        self.n, self.hash = n, found
        self.size += len(whole)

    def _cut(self) -> None:
        """Takes away what was written of lines that are not in the chain."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self.size)

    def sync(self) -> None:
        """What is written is on disk when it returns. OSError also if the file was removed."""
        os.fdatasync(self._file)
        if os.fstat(self._file).st_nlink == 0:
            raise OSError("its file was removed")

    def close(self) -> None:
        os.close(self._file)


def bound(before: str, line: bytes) -> str:
    """The hash of a line (without its own)."""
    return sha256(before.encode() + line).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it stands in a file. ``number``: of the line, from 1. ``line``: what ``hash``
    is over; ``content`` None: it is not a line of a chain.
    """

    number: int
    line: bytes
    hash: str
    content: dict[str, Any] | None
    whole: bool


def lines(path: Path) -> Iterator[Line]:
    """The lines of a file in their order, also those that cannot be read."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            yield _parsed(number, raw)


def end_of(folder: Path, head: Place) -> Place | None:
    """Where a chain ends by its file, if that has at least this head; None if it has not."""
    path = folder / (head.chain + SUFFIX)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST))
            raw = file.read().split(b"\n")[-2:-1]
    except OSError:
        return None
    last = _parsed(0, raw[0] + b"\n") if raw else None
    if last is None or last.content is None or last.content["n"] < head.n:
        return None
    return Place(head.chain, last.content["n"], last.hash)


def _parsed(number: int, raw: bytes) -> Line:
    line, _, rest = raw.rstrip(b"\n").rpartition(_HASH)
    content: dict[str, Any] | None = None
    if raw.endswith(_END + b"\n"):
        try:
            content = msgspec.json.decode(line + b"}", type=dict[str, Any])
        except msgspec.MsgspecError:
            content = None
    if content is not None and type(content.get("n")) is not int:
        content = None
    found = rest.removesuffix(_END).decode("ascii", "replace")
    return Line(number, line, found, content, raw.endswith(b"\n"))


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
