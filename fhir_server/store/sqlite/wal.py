"""Damage in the write-ahead log, which SQLite itself takes for its end.

At recovery SQLite passes over everything from the first frame that does not pass its checksum:
right for what a loss of power left of the last transaction, wrong for a flipped bit in the
middle, behind which there are commits that were acknowledged. The two differ by how many
commits lie behind: every commit is synced before the next begins, so a torn end has one at
most. (So a flipped bit in the very last one cannot be told from a torn write.) https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fhir_server.model.problem import ServerError

HEADER: Final = struct.Struct(">IIIIIIII")
"""Magic, format, page size, checkpoint, two salts, two checksums."""
FRAME: Final = struct.Struct(">IIIIII")
"""Page, size of the database after a commit or 0, two salts, two checksums."""
MAGIC: Final = 0x377F0682
LAST_FRAME: Final = struct.Struct("=16xI")
"""Where the index of the log (``-shm``) says how many frames are valid."""


class DamagedLog(ServerError):
    """Commits that were acknowledged lie behind a damaged place of the log."""


def commits(wal: Path) -> list[int]:
    """Numbers (from 1) of the frames that end a transaction, as they are marked; whether
    their checksums are right is not looked at. Raises DamagedLog for the header of the log.
    """
    try:
        with wal.open("rb") as file:
            head = file.read(HEADER.size)
            frames = (wal.stat().st_size - HEADER.size) // FRAME.size
            if frames < 1 or not any(head):
                return []
            if not _sound(head):
                raise DamagedLog(f"the header of {wal.name} is damaged: restore a backup")
            _, _, page, _, *salts, _, _ = HEADER.unpack(head)
            return list(_marked(file.fileno(), page, salts, wal.stat().st_size))
    except FileNotFoundError:
        return []


def _sound(head: bytes) -> bool:
    """Whether a header passes its checksum."""
    magic, *_, first, second = HEADER.unpack(head)
    if magic & ~1 != MAGIC:
        return False
    words = struct.unpack(">6I" if magic & 1 else "<6I", head[:24])
    a = b = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        a = (a + even + b) & 0xFFFFFFFF
        b = (b + odd + a) & 0xFFFFFFFF
    return (a, b) == (first, second)


def _marked(file: int, page: int, salts: list[int], size: int) -> Iterator[int]:
    step = FRAME.size + page
    for number in range((size - HEADER.size) // step):
        _, after, *found = FRAME.unpack(os.pread(file, FRAME.size, HEADER.size + number * step))
        if found[:2] == salts and after:
            yield number + 1


def recovered(database: Path, marked: list[int], connection: sqlite3.Connection) -> None:
    """To be called when ``connection`` has read for the first time; ``marked``: the commits
    that were found before it did. Raises DamagedLog.
    """
    if not marked:
        return
    valid = _valid(database)
    behind = [number for number in marked if number > valid]
    if len(behind) > 1:
        wal = database.with_name(database.name + "-wal")
        raise DamagedLog(
            f"{wal.name} is damaged behind frame {valid}: {len(behind)} commits cannot be read. "
            f"Restore a backup, or go on without them: truncate -s {_end(wal, valid)} {wal.name}"
        )
    if behind:
        # What is left of a torn transaction must not be counted another time.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _end(wal: Path, frames: int) -> int:
    with wal.open("rb") as file:
        page: int = HEADER.unpack(file.read(HEADER.size))[2]
    return HEADER.size + frames * (FRAME.size + page)


def _valid(database: Path) -> int:
    file = _kept_open(database.with_name(database.name + "-shm"))
    (number,) = LAST_FRAME.unpack(os.pread(file, LAST_FRAME.size, 0))
    return int(number)


KEPT: Final[set[int]] = set()
"""Files of indexes of logs that this process has open beside SQLite."""


def _kept_open(shm: Path) -> int:
    """The index of a log, which stays open. Who closes any file of it gives up, by POSIX, every
    lock that this process has on it: the next one that comes takes itself for the first, and cuts
    the index off under the feet of those who have it mapped.
    https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    wanted = shm.stat()
    for file in tuple(KEPT):
        found = os.fstat(file)
        if os.path.samestat(found, wanted):
            return file
        if not found.st_nlink:  # Nobody has the database open any more.
            KEPT.discard(file)
            os.close(file)
    file = os.open(shm, os.O_RDONLY | os.O_CLOEXEC)
    KEPT.add(file)
    return file
