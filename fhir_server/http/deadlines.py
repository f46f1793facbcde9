"""Deadlines of requests, kept by one sweep instead of a timer for each request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.model.problem import Problem, RequestTimeout, Unavailable

SWEEP_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class Deadline:
    """``when``: time of the event loop. ``missed``: the task was cancelled because of it.
    ``reading``: the task waits for bytes of its client.
    """

    task: asyncio.Task[Any]
    when: float
    missed: bool = False
    reading: bool = False


class Deadlines:
    """Cancels the tasks of one event loop that run past their deadline, within a second."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._interval = min(SWEEP_SECONDS, seconds / 4)
        self._running: set[Deadline] = set()
        self._sweeping = False

    def start(self) -> Deadline:
        """The deadline of the current task; to be given to ``end`` in any case."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        deadline = Deadline(task, loop.time() + self._seconds)
        self._running.add(deadline)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(self._interval, self._sweep)
        return deadline

    def end(self, deadline: Deadline) -> None:
        self._running.discard(deadline)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for deadline in self._running:
            if deadline.when < now and not deadline.missed:
                deadline.missed = True
                deadline.task.cancel()
        self._sweeping = bool(self._running)
        if self._sweeping:
            loop.call_later(self._interval, self._sweep)


def late(deadline: Deadline) -> Problem:
    """Whose fault it is that a request took too long."""
    if deadline.reading:
        return RequestTimeout("the body did not arrive in time")
    return Unavailable("the request took too long", code="timeout")
