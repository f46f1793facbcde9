"""The runner of one worker: claims jobs, runs their bodies, watches over them.

Once a second it looks: what is free is claimed, every running job's lease, cancel wish and
authorisation are looked up again, so that a revocation stops a job within about a second.
A job whose holder fell silent is taken over and goes on from its checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from fhir_server.access.session import Session
from fhir_server.jobs.context import Body, JobContext, LeaseLost
from fhir_server.jobs.model import SECOND, Failure, Job
from fhir_server.jobs.queue import Queue, failure_of
from fhir_server.model.problem import Forbidden, Problem, ServerError

log = structlog.get_logger("vehr.jobs")

Reopen = Callable[[Job], Awaitable[Session]]
"""The Session of a job, judged anew by its grant; a Problem if that was revoked."""

LOOK_SECONDS: Final = 0.5
SWEEP_SECONDS: Final = 300
UNEXPECTED: Final = "the job met an unexpected condition; its id names it in the server's log"
SILENT: Final = "the job was started several times and never came to an end"
SHORT: Final = "the job ended before all of its work was done"
CHANGED: Final = "what the job's owner may see has changed since it began"

Why = Literal["lost", "cancel", "drain"]


@dataclass(slots=True)
class _Run:
    """One claimed job. ``why``: the reason for which its task was cancelled."""

    job: Job
    holder: str
    context: JobContext | None = None
    task: asyncio.Task[None] | None = None
    why: Why | Problem | None = None

    def stop(self, why: Why | Problem) -> None:
        if self.why is None and self.task is not None:
            self.why = why
            self.task.cancel()


class Runner:
    """``width``: jobs at a time. Owners hand in their bodies by kind."""

    def __init__(
        self, queue: Queue, bodies: Mapping[str, Body], reopen: Reopen, width: int = 4
    ) -> None:
        self._queue = queue
        self._bodies = bodies
        self._reopen = reopen
        self._width = width
        self._runs: dict[str, _Run] = {}
        self._loop: asyncio.Task[None] | None = None
        self._swept = 0
        self._closing = False

    @property
    def running(self) -> frozenset[str]:
        """The ids of the jobs of this worker."""
        return frozenset(self._runs)

    def start(self) -> None:
        """Look again and again until ``drain``."""
        self._loop = asyncio.create_task(self._look_on(), name="jobs")

    async def drain(self, seconds: float = 5) -> None:
        """Claim nothing more; what does not end in time goes back into the queue."""
        self._closing = True
        self._queue.wake.set()
        if self._loop is not None:
            await asyncio.wait({self._loop}, timeout=seconds)
            self._loop.cancel()
        await self.settle(seconds)
        for run in list(self._runs.values()):
            run.stop("drain")
        await self.settle(seconds)

    async def settle(self, seconds: float | None = None) -> None:
        """Until the jobs that run now have ended, but no longer than ``seconds``."""
        tasks = {run.task for run in self._runs.values() if run.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def look(self) -> int:
        """Watch over what runs, then claim what is free; how many were claimed."""
        for run in list(self._runs.values()):
            await self._watch(run)
        claimed = 0
        for job in await self._queue.unfinished():
            claimed += await self._consider(job)
        if self._queue.now() - self._swept >= SWEEP_SECONDS * SECOND:
            self._swept = self._queue.now()
            await self._queue.sweep()
        return claimed

    async def _look_on(self) -> None:
        """A look that fails (the store is away) is logged, and the next one comes."""
        while not self._closing:
            self._queue.wake.clear()
            look = asyncio.create_task(self.look())
            try:
                await asyncio.wait({look})
            finally:
                look.cancel()
            _log_failure(look, "a look at the queue failed")
            # Not wait_for, which loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._queue.wake.wait()

    async def _consider(self, job: Job) -> bool:
        """Claim a free job, if there is room and a body for it."""
        if job.id in self._runs or not job.free(self._queue.now()):
            return False
        if job.cancel:
            await self._queue.end(job.id, "cancelled")
            return False
        if job.attempts >= self._queue.rules.attempts:
            failure = failure_of(ServerError(SILENT))
            await self._queue.end(job.id, "failed", failure=failure)
            return False
        full = self._closing or len(self._runs) >= self._width
        if full or job.kind not in self._bodies:
            return False
        claimed = await self._queue.claim(job.id)
        if claimed is None or claimed.lease is None:
            return False
        run = self._runs[job.id] = _Run(claimed, claimed.lease.holder)
        run.task = asyncio.create_task(self._run(run), name=f"job {job.id}")
        run.task.add_done_callback(lambda task: self._over(run, task))
        return True

    async def _watch(self, run: _Run) -> None:
        """Does the job still belong here, does its owner still want and may it?"""
        if run.context is None:
            return None
        job = await run.context.renew()
        if job is None:
            return run.stop("lost")
        if job.cancel:
            return run.stop("cancel")
        try:
            session = await self._reopen(job)
        except Problem as problem:
            return run.stop(problem if problem.status < 500 else "lost")
        if session.principal != run.context.session.principal:
            return run.stop(Forbidden(CHANGED))
        run.context.session = session
        return None

    async def _run(self, run: _Run) -> None:
        """One claim from the body's first line to the job's next state."""
        try:
            await self._perform(run)
        except Problem as problem:
            await self._fail(run, failure_of(problem))
        except LeaseLost:
            return
        except asyncio.CancelledError:
            if run.why is None:
                raise
            await self._stopped(run, run.why)
        else:
            await self._done(run)

    async def _perform(self, run: _Run) -> None:
        """The body; unexpected errors become ServerError."""
        try:
            run.context = JobContext(self._queue, run.job, await self._admit(run.job))
            await self._bodies[run.job.kind](run.context)
        except (Problem, LeaseLost):
            raise
        except Exception as error:
            log.error("a job failed", job=run.job.id, kind=run.job.kind, error=_place(error))
            raise ServerError(UNEXPECTED) from error

    async def _admit(self, job: Job) -> Session:
        """The Session of the job; while nobody can tell, the job waits for its next holder."""
        try:
            return await self._reopen(job)
        except Problem as problem:
            if problem.status < 500:
                raise
            raise LeaseLost from problem

    async def _done(self, run: _Run) -> None:
        context = run.context
        assert context is not None
        if isinstance(run.why, Problem):
            return await self._fail(run, failure_of(run.why))
        if not context.settled(run.job).progress.complete:
            return await self._fail(run, failure_of(ServerError(SHORT)))
        await self._queue.end(run.job.id, "done", holder=run.holder, result=context.settled)
        return None

    async def _fail(self, run: _Run, failure: Failure) -> None:
        await self._queue.end(run.job.id, "failed", holder=run.holder, failure=failure)

    async def _stopped(self, run: _Run, why: Why | Problem) -> None:
        if isinstance(why, Problem):
            await self._fail(run, failure_of(why))
        elif why == "cancel":
            await self._queue.end(run.job.id, "cancelled", holder=run.holder)
        elif why == "drain":
            await self._queue.hand_back(run.job.id, run.holder)

    def _over(self, run: _Run, task: asyncio.Task[None]) -> None:
        if self._runs.get(run.job.id) is run:
            del self._runs[run.job.id]
        self._queue.wake.set()
        _log_failure(task, "the state of a job could not be written")


def _log_failure(task: asyncio.Task[object], event: str) -> None:
    """Its lease runs out, or the next look does better; the operator should know."""
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        log.error(event, error=_place(error))


def _place(error: BaseException) -> str:
    """The kind and place of an error, never its data."""
    frame, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frame, trace = f"{code.co_filename}:{trace.tb_lineno} {code.co_name}", trace.tb_next
    return f"{type(error).__name__} at {frame}"
