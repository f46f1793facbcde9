"""What a job body is given: its request, its Session, and the ways to tell how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final, ParamSpec, TypeVar

from fhir_server.access.audit.entry import Recording
from fhir_server.access.session import Session
from fhir_server.jobs.compute import compute
from fhir_server.jobs.files import Content
from fhir_server.jobs.model import SECOND, Job, JobFile, Progress
from fhir_server.jobs.queue import Edit, Queue
from fhir_server.model.exchange import Json

P = ParamSpec("P")
T = TypeVar("T")

TELL: Final = SECOND
"""Progress is written at most once in this time; a checkpoint brings it along."""


class LeaseLost(Exception):
    """The job belongs to another holder, or is gone: the body ends here."""


def _nothing() -> None:
    """Where nothing is recorded."""


class JobContext:
    """The body's side of one claim of a job.

    ``session`` is replaced when the authorisation was looked up again: use it afresh, do not
    keep it over an await. Files and results become part of the job with the next
    ``checkpoint`` or with its end, together with the state that tells of them.
    """

    def __init__(self, queue: Queue, job: Job, session: Session) -> None:
        assert job.lease is not None
        self.session = session
        self.holder: Final = job.lease.holder
        self._queue = queue
        self._job = job
        self._progress = job.progress
        self._told = 0
        self._turn = asyncio.Lock()
        self._staged: tuple[JobFile, ...] = ()
        self._result: Json | None = job.result
        self.recording: Recording | None = None
        """Where what the body does is recorded, if anything is."""
        self.asked: bytes = b""
        """Parameters that the URL of the request does not say, for the record (``_type=...``)."""
        self.tell: Callable[[], None] = _nothing
        """Records now whom the body has read of since the last time, each once: a body that reads
        of very many need not wait for its end."""

    @property
    def recorded(self) -> Session:
        """The session of now, whose writes are recorded."""
        return self.session if self.recording is None else self.session.recorded(self.recording)

    def concerns(self, patients: Iterable[str]) -> None:
        """The body has read of these patients (ids): for the record."""
        if self.recording is not None:
            self.recording.patients.update(patients)

    @property
    def job(self) -> Job:
        """As it was at the last step."""
        return self._job

    @property
    def request(self) -> Json:
        return self._job.request

    @property
    def state(self) -> Json | None:
        """The last checkpoint; None on a first run."""
        return self._job.checkpoint

    @property
    def cancelled(self) -> bool:
        """Somebody wants it stopped; the body is also cancelled at its next await."""
        return self._job.cancel

    def now(self) -> int:
        """Microseconds since the epoch."""
        return self._queue.now()

    def url(self, name: str) -> str:
        """Where the owner fetches the file ``name``."""
        return f"{self._job.url}/{name}"

    async def progress(self, done: int, total: int | None = None, text: str = "") -> None:
        """How far it is. A job that ends with ``done`` below ``total`` counts as failed."""
        self._progress = Progress(done, total, text)
        now = self._queue.now()
        if now - self._told >= TELL:
            self._told = now
            await self._step(lambda job: replace(job, progress=self._progress))

    async def checkpoint(self, state: Json) -> None:
        """From here a new holder goes on: state, files, result and progress in one step."""
        staged = self._staged
        await self._step(lambda job: replace(self.settled(job), checkpoint=state))
        self._staged = self._staged[len(staged) :]

    async def write(
        self, name: str, content: Content, content_type: str = "application/fhir+ndjson"
    ) -> JobFile:
        """A file for the owner, durable; it counts from the next checkpoint or the end.

        A name that was used before is replaced.
        """
        file = await self._queue.files.write(self._job.id, name, content, content_type)
        self._staged = (*self._staged, file)
        return file

    async def read(self, name: str) -> bytes:
        """A file of this job; FileNotFoundError if it has none of that name."""
        file = self.settled(self._job).file(name)
        if file is None:
            raise FileNotFoundError(name)
        return await self._queue.files.content(self._job.id, file)

    def answer(self, result: Json) -> None:
        """What the status URL shows in the end (small JSON)."""
        self._result = result

    async def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Heavy work in another process (``compute.compute``)."""
        return await compute(function, *args, **kwargs)

    def settled(self, job: Job) -> Job:
        """The job with everything that this claim has staged."""
        fresh = {file.name: file for file in (*job.files, *self._staged)}
        return replace(
            job, files=tuple(fresh.values()), result=self._result, progress=self._progress
        )

    async def renew(self) -> Job | None:
        """The job as it is now, its lease lengthened if due; None if it is another's."""
        async with self._turn:
            job = await self._queue.get(self._job.id)
            if job is not None and self._queue.due(job):
                job = await self._queue.step(job.id, self.holder, lambda job: job)
            if job is None or not job.held_by(self.holder):
                return None
            self._job = job
            return job

    async def _step(self, edit: Edit) -> None:
        async with self._turn:
            job = await self._queue.step(self._job.id, self.holder, edit)
            if job is None:
                raise LeaseLost
            self._job = job


Body = Callable[[JobContext], Awaitable[None]]
"""The work of one kind of job. It may be run again from its last checkpoint."""
