"""Has the index of words catch up while this process has little else to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from fhir_server.model.problem import Problem
from fhir_server.store.sqlite.text import PIECE

QUIET: Final = 1.0
"""Seconds: so long after a write the index waits, and then takes one piece in each."""
BUSY: Final = 0.3
"""The part of a core from which on this process has requests to serve."""
SHARE: Final = 10
"""While it has, one part in so many of its time is for the index."""


def pause_after(took: float, cpu: float, pause: float) -> float:
    """Seconds to wait after a piece that ``took`` so many. ``cpu``: what the process has used in
    the ``pause`` before it, seconds."""
    return took * (SHARE - 1) if cpu > pause * BUSY else took


class Follower:
    """``follow``: reads up to so many versions into the index; how many there were."""

    def __init__(self, follow: Callable[[int], Awaitable[int]]) -> None:
        self._follow = follow
        self._task: asyncio.Task[None] | None = None
        self._written = 0.0

    def wake(self) -> None:
        """Something has been written, or may not have been followed yet."""
        self._written = time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        pause = QUIET
        while True:
            spent = time.process_time()
            await asyncio.sleep(pause)
            spent, began = time.process_time() - spent, time.monotonic()
            try:
                if not await self._follow(PIECE):
                    return
            except Problem:  # nothing can be written: the next write that can wakes it again
                return
            now = time.monotonic()
            recent = now - self._written < QUIET
            pause = QUIET if recent else pause_after(now - began, spent, pause)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
