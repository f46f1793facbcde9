"""What is never the same twice: the moment, and new ids."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Final


def micros() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): in order of time, so that new rows lie together."""
    global _chances
    moment = (time.time_ns() // 1_000_000).to_bytes(6, "big").hex()
    chance = next(_chances, "")
    if not chance:
        drawn = _drawn()
        chance, _chances = next(drawn), drawn
    return (
        f"{moment[:8]}-{moment[8:]}-7{chance[:3]}-"
        f"{'89ab'[int(chance[3], 16) & 3]}{chance[4:7]}-{chance[7:19]}"
    )


def _drawn() -> Iterator[str]:
    """Chance for many ids, asked of the system at once; each is handed out once."""
    drawn = os.urandom(10 * _MANY).hex()
    return iter([drawn[start : start + 20] for start in range(0, len(drawn), 20)])


def _forget() -> None:
    """What a process has drawn and not used is not for its children as well."""
    global _chances
    _chances = iter(())


_MANY: Final = 64
_chances: Iterator[str] = iter(())
os.register_at_fork(after_in_child=_forget)
