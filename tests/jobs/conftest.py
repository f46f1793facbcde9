"""A world for jobs: one ledger, one clock, and as many runners as a test wants."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from fhir_server.access.engine import Engine
from fhir_server.access.policy import PermitAll
from fhir_server.access.principal import Principal
from fhir_server.access.session import Session
from fhir_server.jobs.context import Body
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import SECOND, Asked, Job, JobRules, Owner
from fhir_server.jobs.queue import Queue
from fhir_server.jobs.runner import Runner
from fhir_server.model.problem import Unauthorized
from fhir_server.store.ledger import Ledger
from fhir_server.store.memory_ledger import MemoryLedger
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.sqlite.opening import open_store as open_sqlite
from tests.mongodb import new_url
from tests.serving import backends

BASE = "https://ehr.test/fhir"


class Killed(Exception):
    """The process is dead: nothing that it tries has an effect any more."""


class Mortal:
    """A ledger of a process that dies at its ``last`` operation, before or after it acts."""

    def __init__(self, ledger: Ledger, last: int, *, acts: bool) -> None:
        self._ledger = ledger
        self._last = last
        self._acts = acts
        self.count = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count > self._last or (self.count == self._last and not self._acts):
                raise Killed
            result = await method(*args, **kwargs)
            if self.count == self._last:
                raise Killed
            return result

        return call


class Shaky:
    """A ledger that lets others go first, as one on a disk or a network does."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._random = random.Random(seed)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(0)
            result = await method(*args, **kwargs)
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(0)
            return result

        return call


class World:
    def __init__(self, folder: Path) -> None:
        self.micros = 1_700_000_000 * SECOND
        self.ledger: Ledger = MemoryLedger(self.seconds)
        self.folder = folder
        self.files = JobFiles(folder)
        self.revoked: set[str] = set()
        self.rules = JobRules()
        self.anna = session("anna")

    def seconds(self) -> float:
        return self.micros / SECOND

    def now(self) -> int:
        return self.micros

    def wait(self, seconds: float) -> None:
        self.micros += int(seconds * SECOND)

    def queue(self, ledger: Any = None) -> Queue:
        return Queue(ledger or self.ledger, self.files, self.now, self.rules)

    def runner(self, bodies: Mapping[str, Body], ledger: Any = None, width: int = 4) -> Runner:
        return Runner(self.queue(ledger), bodies, self.reopen, width)

    async def reopen(self, job: Job) -> Session:
        if job.grant in self.revoked:
            raise Unauthorized("the grant was revoked")
        return session(job.owner.id, job.grant)

    async def submit(self, kind: str = "work", who: str = "anna", **request: Any) -> Job:
        owner = Owner.of(session(who).principal)
        return await self.queue().submit(Asked(kind, owner, BASE, request, grant=f"of-{who}"))

    async def job(self, id_: str) -> Job:
        job = await self.queue().get(id_)
        assert job is not None
        return job

    def stored(self, job: Job) -> set[str]:
        """The names of the files in the job's folder."""
        return {path.name for path in (self.folder / job.id).glob("*")}


def session(who: str, grant: str = "", **more: Any) -> Session:
    principal = Principal(id=who, grant=grant or f"of-{who}", **more)
    return Session(cast(Engine, None), principal, PermitAll())


@pytest.fixture(params=backends("memory"))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "jobs")
    if request.param == "memory":
        yield made
        return
    if request.param == "mongo":
        store = await open_mongo(new_url(), made.seconds)
    else:
        store = await open_sqlite(tmp_path, "serve", made.seconds)
    made.ledger = store.ledger
    yield made
    await store.close()
