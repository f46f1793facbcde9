from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from fhir_server.access.principal import Principal
from fhir_server.access.scopes import Scope
from fhir_server.jobs.model import Asked, Job, Owner, Progress, State, decode, encode
from fhir_server.jobs.queue import SLOT, Queue
from fhir_server.model.problem import NotFound, TooManyRequests
from tests.jobs.conftest import BASE, Shaky, World, session


def owner(who: str) -> Owner:
    return Owner.of(session(who).principal)


async def test_a_job_is_the_same_after_the_ledger(world: World) -> None:
    job = await world.submit(amount=2, names=["a", "b"])
    claimed = await world.queue().claim(job.id)
    assert claimed is not None
    assert decode(encode(claimed)) == claimed == await world.job(job.id)


async def test_ids_cannot_be_guessed(world: World) -> None:
    first, second = await world.submit(), await world.submit()
    assert len(first.id) == 32 and first.id[:8] != second.id[:8]


@pytest.mark.parametrize("seed", range(20))
async def test_the_limit_per_owner_is_exact(world: World, seed: int) -> None:
    queue = world.queue(Shaky(world.ledger, seed))
    asked = Asked("work", owner("anna"), BASE, {})
    answers = await asyncio.gather(
        *(queue.submit(asked) for _ in range(12)), return_exceptions=True
    )
    refused = [a for a in answers if isinstance(a, TooManyRequests)]
    limit = world.rules.per_owner
    assert len([a for a in answers if isinstance(a, Job)]) == limit
    assert all(int(problem.headers["Retry-After"]) > 0 for problem in refused)
    assert len(await world.queue().unfinished()) == limit == 12 - len(refused)
    await world.submit(who="berta")


async def test_the_end_of_a_job_frees_its_slot(world: World) -> None:
    jobs = [await world.submit() for _ in range(world.rules.per_owner)]
    with pytest.raises(TooManyRequests):
        await world.submit()
    claimed = await world.queue().claim(jobs[0].id)
    assert claimed is not None and claimed.lease is not None
    await world.queue().end(claimed.id, "done", holder=claimed.lease.holder)
    await world.submit()


async def test_what_has_ended_takes_no_slot(world: World) -> None:
    """Its end is seen before its slot is given back."""
    jobs = [await world.submit() for _ in range(world.rules.per_owner)]
    queue, last = world.queue(), jobs[-1].id
    await queue.change(last, lambda job: job.end("done", queue.now(), queue.now() + 1, None))
    assert len(await world.ledger.scan(SLOT)) == world.rules.per_owner
    await world.submit()


class Overtaken(Queue):
    """Somebody else always ends a job first and has not tidied up yet."""

    async def end(self, id_: str, state: State, **_options: object) -> Job | None:
        now = self.now()
        await self.change(id_, lambda job: job.end(state, now, now + 1, None))
        return None


async def test_what_another_ends_meanwhile_is_cancelled_with_its_slot(world: World) -> None:
    job = await world.submit()
    queue = Overtaken(world.ledger, world.files, world.now, world.rules)
    told = await queue.cancel(job.id, remove=True)
    assert told is not None and told.ended
    assert await world.ledger.scan(SLOT) == []
    assert await queue.get(job.id) is None


async def test_a_slot_left_by_a_crash_is_given_back(world: World) -> None:
    job = await world.submit()
    slots = await world.ledger.scan(SLOT)
    await world.queue().cancel(job.id)
    assert await world.ledger.scan(SLOT) == []
    await world.ledger.insert_unique(SLOT, slots[0].key, slots[0].value)
    assert await world.queue().unfinished() == []
    assert await world.ledger.scan(SLOT) == []


async def test_foreign_and_unknown_are_the_same(world: World) -> None:
    job = await world.submit()
    queue = world.queue()
    assert (await queue.find(job.id, owner("anna"))).id == job.id
    problems = []
    for id_, who in ((job.id, "berta"), ("0" * 32, "anna"), ("0" * 32, "berta")):
        with pytest.raises(NotFound) as caught:
            await queue.find(id_, owner(who))
        problems.append(caught.value.outcome())
    assert problems[0] == problems[1] == problems[2]


def test_another_client_patient_or_narrower_scope_is_another_reader() -> None:
    wide = (Scope("patient", "*", "rs"), Scope("user", "Observation", "rs"))
    mine = Owner.of(Principal("anna", wide, "app", "anna", "1"))
    assert mine.may_see(mine)
    assert Owner.of(Principal("anna", wide[::-1], "app", "anna", "1")).may_see(mine)
    for other in (
        Principal("anna", wide, "other", "anna", "1"),
        Principal("anna", wide, "app", "anna", "2"),
        Principal("anna", wide[:1], "app", "anna", "1"),
        Principal("berta", wide, "app", "berta", "1"),
    ):
        assert not Owner.of(other).may_see(mine)


async def test_only_one_of_many_gets_the_claim(world: World) -> None:
    for seed in range(10):
        job = await world.submit(who=f"anna{seed}")
        queues = [world.queue(Shaky(world.ledger, seed * 100 + n)) for n in range(6)]
        claims = await asyncio.gather(*(queue.claim(job.id) for queue in queues))
        assert len([claim for claim in claims if claim is not None]) == 1


async def test_a_lease_expires(world: World) -> None:
    job = await world.submit()
    queue = world.queue()
    first = await queue.claim(job.id)
    assert first is not None and first.lease is not None
    world.wait(world.rules.lease - 1)
    assert await queue.claim(job.id) is None
    assert await queue.step(job.id, first.lease.holder, lambda job: job) is not None
    world.wait(world.rules.lease - 1)
    assert await queue.claim(job.id) is None
    world.wait(1)
    second = await queue.claim(job.id)
    assert second is not None and second.attempts == 2
    assert await queue.step(job.id, first.lease.holder, lambda job: job) is None
    assert await queue.end(job.id, "done", holder=first.lease.holder) is None
    assert (await world.job(job.id)).state == "running"


async def test_ended_jobs_are_forgotten_with_their_files(world: World) -> None:
    job = await world.submit()
    queue = world.queue()
    claimed = await queue.claim(job.id)
    assert claimed is not None and claimed.lease is not None
    file = await queue.files.write(job.id, "Patient.ndjson", b"{}\n")
    holder = claimed.lease.holder
    await queue.end(job.id, "done", holder=holder, result=lambda j: replace(j, files=(file,)))
    world.wait(world.rules.retention - 1)
    assert await queue.get(job.id) is not None
    folder = world.folder / job.id
    os.utime(folder, (0, 0))
    assert await queue.sweep() == 0 and folder.exists()
    world.wait(2)
    assert await queue.get(job.id) is None
    assert await queue.sweep() == 1 and not folder.exists()


async def test_a_job_that_waits_is_not_forgotten(world: World) -> None:
    job = await world.submit()
    world.wait(world.rules.retention * 3)
    assert await world.queue().claim(job.id) is not None
    world.wait(world.rules.idle - 1)
    assert await world.queue().get(job.id) is not None
    world.wait(2)
    assert await world.queue().get(job.id) is None
    assert await world.queue().unfinished() == []


async def test_removal_leaves_nothing(world: World) -> None:
    job = await world.queue().submit(Asked("work", owner("anna"), BASE, {}, body=b"{}"))
    assert len(world.stored(job)) == 1
    await world.queue().cancel(job.id, remove=True)
    assert await world.queue().get(job.id) is None
    assert not (world.folder / job.id).exists()
    assert await world.ledger.scan(SLOT) == []


async def test_jobs_are_listed_for_their_owner(world: World) -> None:
    first = await world.submit()
    world.wait(1)
    second = await world.submit()
    await world.submit(who="berta")
    assert [j.id for j in await world.queue().of(owner("anna"))] == [second.id, first.id]


@pytest.mark.parametrize(
    ("progress", "header"),
    [
        (Progress(), ""),
        (Progress(3, 10, "Patient"), "3/10 Patient"),
        (Progress(3, None), "3"),
        (Progress(0, 10), "0/10"),
        (Progress(text="Аналіз\r\nX: 1"), "????????X: 1"),
        (Progress(1, 2, "x" * 500), "1/2 " + "x" * 95),
    ],
)
def test_progress_fits_a_header(progress: Progress, header: str) -> None:
    assert progress.header == header
    assert len(progress.header) < 100
