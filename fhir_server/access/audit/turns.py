"""Searches of the audit trail by one principal take turns.

Each is much work that gives way to others in small steps. Many of one principal at once would all
go on together, and none would be answered in time: so one goes after the other, and who has too
many waiting is refused (429).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fhir_server.model.problem import TooManyRequests
from fhir_server.store.asking import asking

MOST_WAITING: Final = 16


class Turns:
    """For one event loop: by the principal who asks, a lock and who has it or waits for it."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises TooManyRequests."""
        name = asking.get()
        lock, here = self._asked.setdefault(name, (asyncio.Lock(), []))
        if len(here) > MOST_WAITING:
            text = "too many of your searches of the audit trail are waiting"
            raise TooManyRequests(text, headers={"Retry-After": "10"})
        here.append(None)
        try:
            async with lock:
                yield
        finally:
            here.pop()
            if not here:
                del self._asked[name]
