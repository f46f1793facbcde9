"""What is never the same twice: the moment, and new ids."""

from __future__ import annotations

import os
import time
from typing import Final

CHANCE: Final = 10
"""Random bytes of an id."""
AHEAD: Final = 256
"""Ids whose random bytes are asked for in one call, which takes longer than all the rest."""

_chances: Final[list[bytes]] = []
# What a forked process would share with its parent is never used twice.
os.register_at_fork(after_in_child=_chances.clear)


def micros() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): in order of time, so that new rows lie together."""
    moment = (time.time_ns() // 1_000_000).to_bytes(6, "big").hex()
    chance = _chance().hex()
    return (
        f"{moment[:8]}-{moment[8:]}-7{chance[:3]}-"
        f"{'89ab'[int(chance[3], 16) & 3]}{chance[4:7]}-{chance[7:19]}"
    )


def _chance() -> bytes:
    """Random bytes that nothing else has; from any thread."""
    try:
        return _chances.pop()
    except IndexError:
        first, *more = _cut(os.urandom(CHANCE * AHEAD))
        _chances.extend(more)
        return first


def _cut(block: bytes) -> list[bytes]:
    return [block[start : start + CHANCE] for start in range(0, len(block), CHANCE)]
