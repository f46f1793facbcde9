"""The asynchronous pattern: kick-off, status, files and deletion of a job as answers.

https://hl7.org/fhir/R4/async.html, with the statuses of Bulk Data
(https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-status-request). The status URL is
``[base]/_async/[id]``, the files of a job lie below it; as a Task it is ``[base]/_jobs/[id]``.
Only who started the job sees it;
to everybody else it is as unknown as one that never was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from typing import Final, Protocol

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import SECOND, Asked, Job, JobFile, Owner
from fhir_server.jobs.queue import Queue, failure_of, unknown
from fhir_server.jobs.request import (
    KIND,
    Handler,
    Replayed,
    asked,
    batch_response,
    require_unchanged,
)
from fhir_server.jobs.runner import Reopen
from fhir_server.jobs.task import task_of
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest, Gone, Problem, TooManyRequests

FHIR_JSON: Final = "application/fhir+json; charset=utf-8"
REMEMBERED: Final = 4096
LONGEST_WAIT: Final = 30
"""Seconds of Retry-After for a job that runs since long."""


class Polls:
    """How often each job is asked after: a bucket that refills. ``now``: microseconds."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._rate = per_second
        self._left: dict[str, tuple[float, int]] = {}

    def count(self, id_: str, now: int) -> None:
        """TooManyRequests if this poll comes too soon after the others."""
        left, since = self._left.get(id_, (self._burst, now))
        left = min(self._burst, left + (now - since) / SECOND * self._rate)
        if left < 1:
            wait = max(1, round((1 - left) / self._rate))
            raise TooManyRequests(
                "the status of this job is asked for too often",
                headers={"Retry-After": str(wait)},
            )
        if len(self._left) >= REMEMBERED:
            self._left.clear()
        self._left[id_] = (left - 1, now)


class Shown(Protocol):
    """How jobs of one kind are shown to their owners, judged again at every look."""

    async def manifest(self, job: Job, session: Session) -> Json:
        """What the status URL answers; a Problem if it may not be shown any more."""
        ...

    async def content(
        self, job: Job, file: JobFile, session: Session
    ) -> bytes | AsyncIterator[bytes]:
        """A file as its owner may see it now; the patients in one that is whole are recorded."""
        ...


class AsyncPattern:
    """The handlers of the status URL, and the kick-off. ``shown``: by kind of job; what is not
    named is shown as it is.
    """

    def __init__(
        self, queue: Queue, reopen: Reopen, shown: Mapping[str, Shown] | None = None
    ) -> None:
        self._shown = shown or {}
        self._queue = queue
        self._files: JobFiles = queue.files
        self._reopen = reopen
        self._polls = Polls(*queue.rules.throttle)

    def handlers(self) -> dict[str, Handler]:
        """By interaction, as the route table names them."""
        return {
            "async-status": self.status,
            "async-cancel": self.delete,
            "async-file": self.file,
            "jobs": self.tasks,
            "job": self.task,
        }

    async def kick_off(self, job: Asked) -> Response:
        """202 with the status URL; TooManyRequests beyond the owner's limit."""
        return accepted(await self._queue.submit(job))

    async def respond_async(self, replayed: Replayed, session: Session) -> Response:
        """Run any request as a job."""
        grant = session.principal.grant
        return await self.kick_off(asked(replayed, session, grant))

    async def status(self, request: Request, session: Session) -> Response:
        """GET of the status URL: 202, or 200 with the result, or the failure."""
        job = await self._queue.find(request.path[0], Owner.of(session.principal))
        if not job.ended:
            job = await self._allowed(job)
        if not job.ended:
            self._polls.count(job.id, self._queue.now())
            return in_progress(job, self._queue.now())
        if job.state == "cancelled":
            raise Gone("this job was cancelled")
        if job.failure is not None:
            return _ended(job, job.failure.status, dumps(job.failure.outcome), FHIR_JSON)
        if job.kind == KIND:
            require_unchanged(job, session)
            return _ended(job, 200, batch_response(job, self._files), FHIR_JSON)
        own = self._shown.get(job.kind)
        result = job.result if own is None else await own.manifest(job, session)
        return _ended(job, 200, dumps(result or {}), "application/json")

    async def file(self, request: Request, session: Session) -> Response:
        """GET of a file of a finished job."""
        id_, name = request.path
        job = await self._queue.find(id_, Owner.of(session.principal))
        file: JobFile | None = job.file(name) if job.state == "done" else None
        if file is None or file not in job.shown:
            raise unknown()
        own = self._shown.get(job.kind)
        if own is None:
            return _ended(job, 200, self._files.read(id_, file), file.content_type)
        return _ended(job, 200, await own.content(job, file, session), file.content_type)

    async def tasks(self, request: Request, session: Session) -> Response:
        """The caller's jobs as a searchset of Tasks, newest first."""
        _refuse_parameters(request)
        jobs = await self._queue.of(Owner.of(session.principal))
        entries = [
            {
                "fullUrl": task_url(job),
                "resource": task_of(job),
                "search": {"mode": "match"},
            }
            for job in jobs
        ]
        url = f"{request.base}/_jobs"
        bundle: Json = {"resourceType": "Bundle", "type": "searchset", "total": len(jobs)}
        bundle["link"] = [{"relation": "self", "url": url}]
        if entries:
            bundle["entry"] = entries
        return Response(200, dumps(bundle))

    async def task(self, request: Request, session: Session) -> Response:
        """One job of the caller's as a Task; its result stays at the status URL."""
        _refuse_parameters(request)
        job = await self._queue.find(request.path[0], Owner.of(session.principal))
        return Response(200, dumps(task_of(job)))

    async def delete(self, request: Request, session: Session) -> Response:
        """DELETE of the status URL: the job is stopped, its files go, nobody sees it again."""
        job = await self._queue.find(request.path[0], Owner.of(session.principal))
        await self._queue.cancel(job.id, remove=True)
        return Response(202)

    async def _allowed(self, job: Job) -> Job:
        """Unchanged while its authorisation stands; else it fails, held or not."""
        try:
            await self._reopen(job)
        except Problem as problem:
            if problem.status >= 500:
                raise
            return await self._queue.revoke(job.id, failure_of(problem)) or job
        return job


def task_url(job: Job) -> str:
    return f"{job.base}/_jobs/{job.id}"


def _refuse_parameters(request: Request) -> None:
    if request.query:
        raise BadRequest(f"the parameter {request.query[0][0][:80]!r} is not supported here")


def accepted(job: Job) -> Response:
    """https://hl7.org/fhir/R4/async.html#3.1.6.2"""
    return Response(202, headers={"Content-Location": job.url})


def in_progress(job: Job, now: int) -> Response:
    """202 with X-Progress (below 100 characters) and Retry-After, which grows with age."""
    age = (now - job.created) / SECOND
    wait = int(min(max(1, age / 10), LONGEST_WAIT))
    said = job.progress.header or job.state
    return Response(202, headers={"X-Progress": said, "Retry-After": str(wait)})


def _ended(
    job: Job, status: int, body: bytes | AsyncIterator[bytes], content_type: str
) -> Response:
    headers = {"Expires": formatdate(job.expires / SECOND, usegmt=True)}
    return Response(status, body, headers, content_type)
