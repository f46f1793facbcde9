"""What is tried on the event loop, a little in each of its passes.

A search is tried on the loop first, because most are over sooner than a thread would have begun.
Many of them at once would keep everything else waiting for all of them: so a pass of the loop
tries until ``PASS`` seconds are used, and who comes later waits for a pass of its own, in the
order of coming. Between two passes whatever else has arrived is answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from time import perf_counter
from typing import Final, TypeVar

PASS: Final = 0.005
REMEMBERED: Final = 256
"""Searches that were too much for the loop of late."""

T = TypeVar("T")


async def given(
    turn: asyncio.Future[None], waiting: deque[asyncio.Future[None]], leave: Callable[[], None]
) -> None:
    """Waits for a turn. Who is cancelled stands in the queue no more; a turn that was given at
    that very moment goes on to the next by ``leave``. A turn may also be refused.
    """
    try:
        await turn
    except asyncio.CancelledError:
        if turn.cancelled():
            with suppress(ValueError):
                waiting.remove(turn)
        elif turn.exception() is None:
            leave()
        raise


class Turns:
    """For one event loop. ``clock``: seconds that only rise."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._used = 0.0
        self._free = True
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._dear: dict[int, None] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """``work`` on the loop, now or in one of its next passes."""
        if not self._free:
            await self._turn()
        began = self._clock()
        try:
            return work()
        finally:
            self._used += self._clock() - began
            if self._used >= PASS or not self._free:
                self._leave()

    def remember(self, wanted: Hashable) -> None:
        """It was too much for the loop."""
        key = hash(wanted)
        self._dear.pop(key, None)
        self._dear[key] = None
        if len(self._dear) > REMEMBERED:
            del self._dear[next(iter(self._dear))]

    def remembers(self, wanted: Hashable) -> bool:
        return bool(self._dear) and hash(wanted) in self._dear

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await given(turn, self._waiting, self._leave)

    def _leave(self) -> None:
        """What waits goes on when the loop has looked at what has arrived."""
        self._free = False
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._used = 0.0
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free = True
