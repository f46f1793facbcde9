"""The queue in the ledger: which jobs there are, and every step that one of them takes.

A step is read, edit, compare-and-set, so that any number of workers agree on who runs a
job. Unfinished jobs are found by slots: an owner has a fixed number of them, a slot is taken
by a unique insert, hence the limit per owner is exact without any lock. A slot is given back
after the end of its job; what a crash leaves behind the next look of a runner tidies up.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, Protocol

from fhir_server.access.ports import Ledger
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import (
    REQUEST,
    SECOND,
    Asked,
    Failure,
    Job,
    JobFile,
    JobRules,
    Owner,
    State,
    decode,
    encode,
)
from fhir_server.model.problem import NotFound, Problem, TooManyRequests, outcome

KIND: Final = "job"
SLOT: Final = "job-slot"
BUSY_SECONDS: Final = 10

Edit = Callable[[Job], Job | None]
"""A step; None: it does not apply any more."""


class Mandates(Protocol):
    """What lets a job go on as who started it, also when the token of that request expires."""

    async def entrust(self, grant: str) -> str:
        """The mandate of a grant; it falls with a revocation, not with the token's end."""
        ...

    async def release(self, mandate: str) -> None:
        """The job has ended."""
        ...


class Unlimited:
    """Grants do not end: of an open server, and of the server's own work."""

    async def entrust(self, grant: str) -> str:
        return grant

    async def release(self, mandate: str) -> None:
        return None


class Queue:
    """``now``: microseconds since the epoch. ``wake`` is set when a runner should look."""

    def __init__(
        self,
        ledger: Ledger,
        files: JobFiles,
        now: Callable[[], int],
        rules: JobRules | None = None,
        mandates: Mandates | None = None,
    ) -> None:
        self.files = files
        self.now = now
        self.rules = rules or JobRules()
        self.wake = asyncio.Event()
        self._ledger = ledger
        self._mandates = mandates or Unlimited()

    async def submit(self, asked: Asked) -> Job:
        """A new job, durable when this returns; TooManyRequests if the owner has its fill."""
        id_ = secrets.token_hex(16)
        files: tuple[JobFile, ...] = ()
        if asked.body is not None:
            json = "application/fhir+json"
            files = (await self.files.write(id_, REQUEST, asked.body, json),)
        now = self.now()
        job = Job(
            id=id_,
            kind=asked.kind,
            owner=asked.owner,
            base=asked.base,
            request=asked.request,
            created=now,
            expires=0,
            grant=await self._mandates.entrust(asked.grant) if asked.grant else "",
            files=files,
            updated=now,
            purpose=asked.purpose,
        )
        # The job comes before its slot: a slot always leads to a job that is or was there,
        # and a job without a slot was never acknowledged and expires unseen.
        await self._ledger.insert_unique(KIND, id_, encode(job), self._forget(job))
        # An end is seen before its slot is given back: only a slot of unfinished work counts.
        if not await self._take_slot(job) and (
            not await self._tidied(job.owner) or not await self._take_slot(job)
        ):
            await self._drop(id_)
            if job.grant:
                await self._mandates.release(job.grant)
            raise TooManyRequests(
                f"{self.rules.per_owner} jobs of yours are not finished yet",
                headers={"Retry-After": str(BUSY_SECONDS)},
            )
        self.wake.set()
        return job

    async def get(self, id_: str) -> Job | None:
        row = await self._ledger.get(KIND, id_)
        return decode(row.value) if row else None

    async def find(self, id_: str, owner: Owner) -> Job:
        """The owner's job; NotFound, in the same words, for an unknown and a foreign one."""
        job = await self.get(id_)
        if job is None or job.removed or not owner.may_see(job.owner):
            raise unknown()
        return job

    async def of(self, owner: Owner) -> list[Job]:
        """The jobs that the owner sees, newest first."""
        jobs = [decode(row.value) for row in await self._ledger.scan(KIND)]
        mine = [job for job in jobs if owner.may_see(job.owner) and not job.removed]
        return sorted(mine, key=lambda job: -job.created)

    async def change(self, id_: str, edit: Edit) -> Job | None:
        """The job after the step; None if it is gone or the step does not apply."""
        while (row := await self._ledger.get(KIND, id_)) is not None:
            job = edit(decode(row.value))
            if job is None:
                return None
            if await self._ledger.cas(KIND, id_, encode(job), row.revision, self._forget(job)):
                return job
        return None

    async def claim(self, id_: str) -> Job | None:
        """The job with a lease for the caller, if it is free; attempts are counted."""
        holder, now = secrets.token_hex(8), self.now()
        until = now + self._micros(self.rules.lease)

        def edit(job: Job) -> Job | None:
            return job.taken(holder, until, now) if job.free(now) and not job.cancel else None

        return await self.change(id_, edit)

    async def step(self, id_: str, holder: str, edit: Edit) -> Job | None:
        """A step of the holder, which renews its lease; None if it is not the holder's job."""
        now = self.now()
        until = now + self._micros(self.rules.lease)

        def guarded(job: Job) -> Job | None:
            edited = edit(job) if job.lease is not None and job.held_by(holder) else None
            if edited is None or edited.lease is None:
                return edited
            return replace(edited, lease=replace(edited.lease, until=until), updated=now)

        return await self.change(id_, guarded)

    def due(self, job: Job) -> bool:
        """Is a third of the lease gone?"""
        left = job.lease.until - self.now() if job.lease is not None else 0
        return left < self._micros(self.rules.lease) * 2 // 3

    async def hand_back(self, id_: str, holder: str) -> Job | None:
        return await self.step(id_, holder, lambda job: job.handed_back(self.now()))

    async def end(
        self,
        id_: str,
        state: State,
        *,
        holder: str | None = None,
        failure: Failure | None = None,
        result: Callable[[Job], Job] = lambda job: job,
    ) -> Job | None:
        """The end of a held job, or (``holder`` None) of one that nobody holds."""
        now = self.now()
        expires = now + self._micros(self.rules.retention)

        def edit(job: Job) -> Job | None:
            mine = job.free(now) if holder is None else job.held_by(holder)
            return result(job).end(state, now, expires, failure) if mine else None

        ended = await self.change(id_, edit)
        if ended is not None:
            await self.tidy(ended)
        return ended

    async def revoke(self, id_: str, failure: Failure) -> Job | None:
        """Fail a job whoever holds it; the holder finds its lease gone and stops."""
        now = self.now()
        expires = now + self._micros(self.rules.retention)
        job = await self.change(
            id_, lambda job: None if job.ended else job.end("failed", now, expires, failure)
        )
        if job is not None:
            await self.tidy(job)
        return job

    async def cancel(self, id_: str, *, remove: bool = False) -> Job | None:
        """Ask for the end of a job; what nobody works on ends at once."""

        def edit(job: Job) -> Job | None:
            return replace(job, cancel=not job.ended, removed=job.removed or remove)

        job = await self.change(id_, edit)
        if job is None:
            return None
        if job.ended:
            await self.tidy(job)
            return job
        self.wake.set()
        if (ended := await self.end(id_, "cancelled")) is not None:
            return ended
        # A holder works on it, or somebody else ended it meanwhile and may still be tidying up:
        # who is told that it is gone has its slot back.
        now = await self.get(id_)
        if now is None or now.ended:
            await self.tidy(now or job)
        return now or job

    async def tidy(self, job: Job) -> None:
        """After the end: a removed job leaves nothing, and last of all the slot is free."""
        if job.grant:
            await self._mandates.release(job.grant)
        if job.removed:
            await self._drop(job.id)
        else:
            await self.files.keep(job.id, job.files)
        for row in await self._ledger.scan(SLOT, _prefix(job.owner)):
            if row.value["job"] == job.id:
                await self._ledger.cas(SLOT, row.key, None, row.revision)

    async def unfinished(self) -> list[Job]:
        """Every job in a slot, oldest first; slots of ended jobs are given back."""
        return sorted(await self._filled(""), key=lambda job: (job.created, job.id))

    async def _filled(self, prefix: str) -> list[Job]:
        jobs: list[Job] = []
        for row in await self._ledger.scan(SLOT, prefix):
            job = await self.get(row.value["job"])
            if job is None:
                await self._ledger.cas(SLOT, row.key, None, row.revision)
                await self.files.remove(row.value["job"])
            elif job.ended:
                await self.tidy(job)
            else:
                jobs.append(job)
        return jobs

    async def _tidied(self, owner: Owner) -> bool:
        """Are slots of the owner free, after those of ended jobs were given back?"""
        return len(await self._filled(_prefix(owner))) < self.rules.per_owner

    async def forget(self, ids: Collection[str]) -> int:
        """Stop and remove every job with a file that names one of these resource ids; how many."""
        removed = 0
        for row in await self._ledger.scan(KIND) if ids else ():
            job = decode(row.value)
            if await self.files.names(job.id, job.files, ids):
                await self.cancel(job.id, remove=True)
                removed += 1
        return removed

    async def sweep(self) -> int:
        """Forget what has expired, rows and folders; the number of folders removed."""
        await self._ledger.expire()
        jobs = [decode(row.value) for row in await self._ledger.scan(KIND)]
        for job in jobs:
            if job.ended and job.removed:
                await self.tidy(job)
        return await self.files.sweep({job.id for job in jobs})

    async def _take_slot(self, job: Job) -> bool:
        """The first free slot of the owner. Slots are numbered; two cannot take the same."""
        prefix = _prefix(job.owner)
        taken = {row.key for row in await self._ledger.scan(SLOT, prefix)}
        for number in range(self.rules.per_owner):
            key = f"{prefix}{number:04}"
            if key not in taken and await self._ledger.insert_unique(SLOT, key, {"job": job.id}):
                return True
        return False

    async def _drop(self, id_: str) -> None:
        await self.files.remove(id_)
        row = await self._ledger.get(KIND, id_)
        if row is not None:
            await self._ledger.cas(KIND, id_, None, row.revision)

    def _forget(self, job: Job) -> float:
        """Epoch seconds at which the row is absent."""
        if job.ended:
            return job.expires / SECOND
        return self.now() / SECOND + self.rules.idle

    @staticmethod
    def _micros(seconds: float) -> int:
        return int(seconds * SECOND)


def _prefix(owner: Owner) -> str:
    """One key part per owner, whatever characters its names have."""
    text = "\x00".join(owner.place)
    return hashlib.sha256(text.encode()).hexdigest()[:32] + "/"


def unknown() -> NotFound:
    return NotFound("this job is not known")


def failure_of(problem: Problem) -> Failure:
    return Failure(problem.status, outcome(problem.issues))
