"""Running graphs outside the server's process: ``await runtime.run(package, inputs)``.

A worker (``worker.py``) is started when first needed, holds its sessions and is spoken to
over pipes, so that a graph that crashes, hangs or eats memory costs its own call one 503 and
nothing else. A late worker is ended and the next call starts another, but no more than
``RESTARTS`` within ``PERIOD`` seconds. A package that costs a worker ``FAILURES`` times within
``QUIET`` seconds, oftener than it answers, is refused at once for as long, so that it cannot keep
the worker from the others. What a worker answers with an error (NaN, too much memory, a wrong
shape) has kept nobody waiting and costs its own call only.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from fhir_server.model.problem import Unavailable

from .batching import Batching, Graph, Outputs, Vectors, WorkerFailed
from .processes import environment

T = TypeVar("T")

FAILURES: Final = 3
QUIET: Final = 30.0
RESTARTS: Final = 20
PERIOD: Final = 60.0
LARGEST_ANSWER: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """``seconds``: for one call; ``start``: until a fresh worker is ready;
    ``memory``: address space of a worker in MiB; ``waiting``: calls in the queue;
    ``providers``: of onnxruntime, by preference; the processor is always there at last."""

    seconds: float = 5.0
    start: float = 30.0
    memory: int = 1024
    waiting: int = 256
    providers: tuple[str, ...] = ()


@dataclass(slots=True)
class _Worker:
    process: asyncio.subprocess.Process

    async def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """One frame there, one back. Raises EOFError or OSError when the process is gone."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise EOFError
        body = json.dumps(request).encode()
        stdin.write(struct.pack(">I", len(body)) + body)
        await stdin.drain()
        size = struct.unpack(">I", await stdout.readexactly(4))[0]
        if size > LARGEST_ANSWER:
            raise EOFError
        answer: dict[str, Any] = json.loads(await stdout.readexactly(size))
        return answer

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@dataclass(slots=True)
class Runtime:
    """Worker processes behind one queue each; use inside one event loop, then ``close``."""

    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    clock: Callable[[], float] = time.monotonic
    _idle: asyncio.Queue[_Worker | None] | None = None
    _failures: defaultdict[str, deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=FAILURES))
    )
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _started: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS))
    _batching: Batching | None = None
    _closed: bool = False
    starts: int = 0

    async def run(self, package: Graph, inputs: Vectors) -> dict[str, list[float]]:
        """Outputs by name, as long as the inputs. Raises Unavailable (503)."""
        self._refuse_if_quiet(package)
        try:
            outputs = await self.batching.run(package, inputs)
        except WorkerFailed as failure:
            if failure.lost:
                self._failures[package.sha256].append(self.clock())
            raise Unavailable(f"Model {package.id}: {failure}") from None
        if failures := self._failures.get(package.sha256):
            failures.popleft()
        return outputs

    @property
    def batching(self) -> Batching:
        if self._batching is None:
            self._batching = Batching(self._computed, self.workers)
        return self._batching

    async def _computed(self, package: Graph, inputs: Vectors) -> Outputs:
        """Raises WorkerFailed, Unavailable."""
        outputs = await self._shielded(self._call(package, inputs))
        _check(outputs, {len(values) for values in inputs.values()})
        return outputs

    async def close(self) -> None:
        """End the workers that this runtime started."""
        self._closed = True
        if self._batching is not None:
            await self._batching.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._idle is not None and not self._idle.empty():
            worker = self._idle.get_nowait()
            if worker is not None:
                await worker.end()

    def _refuse_if_quiet(self, package: Graph) -> None:
        if self._closed:
            raise Unavailable("The model runtime is shut down")
        if len(self._tasks) + len(self.batching) >= self.limits.waiting:
            raise Unavailable("The model runtime is busy", headers={"Retry-After": "1"})
        failures = self._failures.get(package.sha256)
        if failures and len(failures) == FAILURES and failures[0] > self.clock() - QUIET:
            raise Unavailable(
                f"Model {package.id} failed repeatedly and rests",
                headers={"Retry-After": str(int(QUIET))},
            )

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """A caller that goes away must not leave a half-read pipe behind."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where the caller is gone

    async def _call(self, package: Graph, inputs: Vectors) -> dict[str, Any]:
        idle = self._slots()
        worker = await idle.get()
        kept: _Worker | None = None
        try:
            if worker is None or worker.process.returncode is not None:
                worker = await self._start()
                await self._exchange(worker, {"inputs": None}, self.limits.start)
            answer = await self._answer(worker, package, inputs)
            kept = worker
        finally:
            if kept is None and worker is not None:
                await worker.end()
            idle.put_nowait(kept)
        if "error" in answer:
            raise WorkerFailed(_public(answer["error"]))
        outputs: dict[str, Any] = answer["outputs"]
        return outputs

    async def _answer(self, worker: _Worker, package: Graph, inputs: Vectors) -> dict[str, Any]:
        return await self._exchange(
            worker,
            {"graph": str(package.graph), "sha256": package.sha256, "inputs": dict(inputs)},
            self.limits.seconds,
        )

    async def _exchange(
        self, worker: _Worker, request: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        try:
            return await asyncio.wait_for(worker.call(request | {"seconds": seconds}), seconds)
        except TimeoutError:
            raise WorkerFailed(f"no answer within {seconds:g} s", lost=True) from None
        except (EOFError, OSError, ValueError):
            raise WorkerFailed("the worker process ended", lost=True) from None

    def _slots(self) -> asyncio.Queue[_Worker | None]:
        if self._idle is None:
            self._idle = asyncio.Queue()
            for _ in range(self.workers):
                self._idle.put_nowait(None)
        return self._idle

    async def _start(self) -> _Worker:
        now = self.clock()
        if len(self._started) == RESTARTS and self._started[0] > now - PERIOD:
            wait = {"Retry-After": str(int(PERIOD))}
            raise Unavailable("The model runtime was restarted too often and rests", headers=wait)
        self._started.append(now)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "operations.models.worker",
                str(self.limits.memory),
                *self.limits.providers,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerFailed("a worker process could not be started") from error
        self.starts += 1
        return _Worker(process)


def _check(outputs: Mapping[str, Any], rows: set[int]) -> None:
    """Every output is a vector of finite numbers as long as the inputs."""
    if not outputs:
        raise WorkerFailed("the graph has no output")
    for name, values in outputs.items():
        if not isinstance(values, list) or {len(values)} != rows:
            raise WorkerFailed(f"output {name} has the wrong shape")
        if not all(isinstance(v, float) and math.isfinite(v) for v in values):
            raise WorkerFailed(f"output {name} is not a finite number")


def _public(error: str) -> str:
    """The kind of failure; messages of native code may hold paths and stay inside."""
    return "out of memory" if "memory" in error or "alloc" in error else "the graph failed"
