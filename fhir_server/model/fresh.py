"""What is never the same twice: the moment, and new ids."""

from __future__ import annotations

import os
import time


def micros() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): in order of time, so that new rows lie together."""
    moment = (time.time_ns() // 1_000_000).to_bytes(6, "big").hex()
    chance = os.urandom(10).hex()
    return (
        f"{moment[:8]}-{moment[8:]}-7{chance[:3]}-"
        f"{'89ab'[int(chance[3], 16) & 3]}{chance[4:7]}-{chance[7:19]}"
    )
