"""Several processes behind one listening socket, and the one that watches over them.

The supervisor binds the sockets and holds the lock of the data directory; each worker inherits
both, so the lock is held until the last of them is gone. Workers elect the writer among
themselves. One that ends is started again, within a budget; when the supervisor ends, however
it ends, the workers see the end of their line and leave.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import DupFd
from typing import Any, Final

import structlog

from fhir_server.model.problem import Problem
from fhir_server.workers.output import forgive_output
from fhir_server.workers.process import DRAIN_SECONDS, Told, Work, run

log = structlog.get_logger("vehr.workers")

RESTARTS: Final = 10
RESTART_SECONDS: Final = 60
"""At most so many workers are started again in so much time; more means that none can live."""
LOOK_SECONDS: Final = 0.5
READY: Final = "ready"


class GaveUp(Exception):
    """The workers cannot serve; its text is the one line that the operator reads."""


class Inherited:
    """An open file that spawned processes inherit; None where there is none."""

    def __init__(self, file: int | None) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Any], Inherited], tuple[Any]]:
        return _inherit, (None if self.file is None else DupFd(self.file),)


def _inherit(copy: Any) -> Inherited:
    return Inherited(None if copy is None else copy.detach())


@dataclass(frozen=True, slots=True)
class Worker:
    """``line``: on it comes READY, or the reason why the worker cannot serve."""

    process: SpawnProcess
    line: Connection


class Supervisor:
    """``lock``: what every worker inherits beside the sockets. ``told``: called once all serve."""

    def __init__(self, work: Work, count: int, lock: Inherited, told: Told) -> None:
        self._work = work
        self._count = count
        self._lock = lock
        self._told = told
        self._workers: list[Worker] = []
        self._restarts: deque[float] = deque()
        self._reasons: dict[Connection, str] = {}
        """Why workers cannot serve that have said so and have not ended yet."""
        self._ready = 0
        self._leaving = False
        self._at_once = False

    def run(self) -> None:
        """Serve until told to stop; every worker is gone when this returns. Raises GaveUp."""
        with self._signals():
            try:
                for _ in range(self._count):
                    self._start()
                while not self._leaving:
                    self._look()
            finally:
                self._stop()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def leave(number: int, _: object) -> None:
            self._leaving = True
            self._at_once = self._at_once or number == signal.SIGINT

        before = {name: signal.signal(name, leave) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        line, theirs = context.Pipe()
        process = context.Process(
            target=work_on, args=(self._work, self._lock, theirs), name="vehr worker"
        )
        process.start()
        theirs.close()
        self._workers.append(Worker(process, line))

    def _look(self) -> None:
        wait([w.process.sentinel for w in self._workers], LOOK_SECONDS)
        for worker in tuple(self._workers):
            word = _heard(worker)
            if word == READY:
                self._ready += 1
                if self._ready == self._count:
                    self._told()
            elif word is not None:
                self._reasons[worker.line] = word
            if worker.process.exitcode is not None:
                self._ended(worker, self._reasons.pop(worker.line, None) or _heard(worker))

    def _ended(self, worker: Worker, reason: str | None) -> None:
        code = worker.process.exitcode
        self._workers.remove(worker)
        worker.line.close()
        if self._ready == 0:
            raise GaveUp(reason or f"a worker ended before it could serve (exit code {code})")
        log.error("worker ended", pid=worker.process.pid, exit_code=code, reason=reason)
        now = time.monotonic()
        while self._restarts and self._restarts[0] < now - RESTART_SECONDS:
            self._restarts.popleft()
        if len(self._restarts) == RESTARTS:
            raise GaveUp("the workers end again and again: see the log")
        self._restarts.append(now)
        self._start()

    def _stop(self) -> None:
        for listening in self._work.sockets:
            listening.close()
        for worker in self._workers:
            if self._at_once and self._ready >= self._count:
                # Whose supervisor is gone leaves without staying ready for a while.
                worker.line.close()
            else:
                worker.process.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.exitcode is None:
                log.error("worker did not leave in time", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()
            worker.line.close()


def _heard(worker: Worker) -> str | None:
    try:
        return str(worker.line.recv()) if worker.line.poll() else None
    except EOFError:
        return None


def _tell_ready(line: Connection) -> None:
    with suppress(BrokenPipeError):  # nobody supervises any more: it leaves as soon as it serves
        line.send(READY)


def work_on(work: Work, lock: Inherited, line: Connection) -> None:
    """A worker. It keeps ``lock`` open for as long as it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forgive_output()
    try:
        run(work, lambda: _tell_ready(line), line.fileno())
    except Problem as problem:
        line.send(str(problem))
        sys.exit(1)
