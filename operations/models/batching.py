"""Calls of one graph that meet are run together: a row each, one exchange with a worker.

Nothing waits for company: a call goes off at once while a worker may be free, and what has come
in meanwhile follows as one. If calls fail together, each is run alone, so that none pays for
another. Rows do not know of each other: golden vectors are run together and alone to see it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from fhir_server.model.problem import Unavailable

Vectors: TypeAlias = Mapping[str, list[float]]
"""Double vectors of equal length by name."""
Outputs: TypeAlias = dict[str, list[float]]

MOST_ROWS: Final = 4096
"""Rows that are run together."""


class WorkerFailed(Exception):
    """The worker crashed, hung or answered with an error; the text says which.

    ``lost``: it was the worker's last call.
    """

    def __init__(self, text: str, lost: bool = False) -> None:
        super().__init__(text)
        self.lost = lost


class Graph(Protocol):
    """What the runtime needs to know of a package."""

    @property
    def id(self) -> str: ...
    @property
    def graph(self) -> Path: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    inputs: Vectors
    rows: int
    outputs: asyncio.Future[Outputs]

    def given(self, outputs: Outputs) -> None:
        if not self.outputs.done():
            self.outputs.set_result(outputs)

    def failed(self, error: Exception) -> None:
        if not self.outputs.done():
            self.outputs.set_exception(error)


class Batching:
    """``compute``: runs a graph, raises WorkerFailed or Unavailable; ``most``: at the same time of
    one graph."""

    def __init__(self, compute: Callable[[Graph, Vectors], Awaitable[Outputs]], most: int) -> None:
        self._compute = compute
        self._most = most
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[_Wanted]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.together = 0
        """Exchanges that served several calls."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def run(self, graph: Graph, inputs: Vectors) -> Outputs:
        """Raises WorkerFailed, Unavailable."""
        key = graph.sha256
        lengths = {len(values) for values in inputs.values()}
        if len(lengths) != 1:
            raise WorkerFailed("the inputs are not equally long")
        if self._running.get(key, 0) < self._most:
            with _Turn(self, graph):
                return await self._compute(graph, inputs)
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(_Wanted(inputs, lengths.pop(), future))
        return await future

    def began(self, graph: Graph) -> None:
        self._running[graph.sha256] = self._running.get(graph.sha256, 0) + 1

    def ended(self, graph: Graph) -> None:
        """What has come in meanwhile follows."""
        self._running[graph.sha256] -= 1
        if not self._running[graph.sha256]:
            del self._running[graph.sha256]
        if self._waiting.get(graph.sha256):
            self.began(graph)
            task = asyncio.ensure_future(self._next(graph, self._taken(graph.sha256)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _taken(self, key: str) -> list[_Wanted]:
        waiting, rows = self._waiting[key], 0
        taken: list[_Wanted] = []
        while waiting and (not taken or rows + waiting[0].rows <= MOST_ROWS):
            taken.append(waiting.popleft())
            rows += taken[-1].rows
        if not waiting:
            del self._waiting[key]
        return taken

    async def _next(self, graph: Graph, wanted: Sequence[_Wanted]) -> None:
        try:
            if len(wanted) == 1 or not await self._merged(graph, wanted):
                for one in wanted:
                    await self._alone(graph, one)
        finally:
            for one in wanted:
                one.failed(Unavailable("The model runtime is shut down"))
            self.ended(graph)

    async def _merged(self, graph: Graph, wanted: Sequence[_Wanted]) -> bool:
        """Did they run together?"""
        names = wanted[0].inputs.keys()
        if any(one.inputs.keys() != names for one in wanted):
            return False
        inputs = {name: [v for one in wanted for v in one.inputs[name]] for name in names}
        try:
            outputs = await self._compute(graph, inputs)
        except (WorkerFailed, Unavailable):
            return False
        self.together += 1
        at = 0
        for one in wanted:
            one.given({name: values[at : at + one.rows] for name, values in outputs.items()})
            at += one.rows
        return True

    async def _alone(self, graph: Graph, one: _Wanted) -> None:
        try:
            one.given(await self._compute(graph, one.inputs))
        except (WorkerFailed, Unavailable) as error:
            one.failed(error)

    async def close(self) -> None:
        for waiting in self._waiting.values():
            for one in waiting:
                one.failed(Unavailable("The model runtime is shut down"))
        self._waiting.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Turn:
    """Counts a run of a graph."""

    def __init__(self, batching: Batching, graph: Graph) -> None:
        self._batching, self._graph = batching, graph

    def __enter__(self) -> None:
        self._batching.began(self._graph)

    def __exit__(self, *_: object) -> None:
        self._batching.ended(self._graph)
