"""Has the index of words catch up while the writer has little else to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from fhir_server.model.problem import Problem
from fhir_server.store.sqlite.text import PIECE

QUIET: Final = 1.0
"""Seconds: so long after a write the index waits, and then takes one piece in each."""


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
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                if not await self._follow(PIECE):
                    return
            except Problem:  # nothing can be written: the next write that can wakes it again
                return
            now = time.monotonic()
            pause = QUIET if now - self._written < QUIET else now - began

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
