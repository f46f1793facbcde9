"""When the allowance of each name will be whole again, in memory that processes share.

A table of buckets: a name has its places in one of them, and a place is taken from who has least
to wait for. The moments are those of one machine's clock, which all its processes read alike.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

BUCKETS: Final = 4096
PLACES: Final = 8
_PLACE: Final = struct.Struct("=Qd")
_BUCKET: Final = struct.Struct("=" + "Qd" * PLACES)
SIZE: Final = BUCKETS * _BUCKET.size


class RateTable:
    """``path``: a file that other processes open too; None: of this process alone.

    Raises OSError for a file that cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file: int | None = None
        if path is None:
            self._memory = mmap.mmap(-1, SIZE)
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size != SIZE:
            os.ftruncate(self._file, SIZE)
        self._memory = mmap.mmap(self._file, SIZE)

    def __enter__(self) -> None:
        """Nobody else reads or writes meanwhile: microseconds, and no await inside."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def get(self, name: str) -> float:
        """0 for a name that is not there."""
        key, start = _place(name)
        found = _BUCKET.unpack_from(self._memory, start)
        for n in range(0, 2 * PLACES, 2):
            if found[n] == key:
                return float(found[n + 1])
        return 0.0

    def put(self, name: str, moment: float) -> None:
        key, start = _place(name)
        found = _BUCKET.unpack_from(self._memory, start)
        keys, moments = found[::2], found[1::2]
        place = keys.index(key) if key in keys else moments.index(min(moments))
        _PLACE.pack_into(self._memory, start + place * _PLACE.size, key, moment)

    def close(self) -> None:
        self._memory.close()
        if self._file is not None:
            os.close(self._file)


@lru_cache(4096)
def _place(name: str) -> tuple[int, int]:
    """The key of a name, and where its bucket begins."""
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) | 1
    return key, (key >> 1) % BUCKETS * _BUCKET.size
