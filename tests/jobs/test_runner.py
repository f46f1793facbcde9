from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from fhir_server.jobs.context import JobContext
from fhir_server.jobs.model import Job
from fhir_server.jobs.queue import SLOT
from fhir_server.jobs.runner import SHORT, SILENT, UNEXPECTED, Runner
from fhir_server.model.problem import Unprocessable
from tests.jobs.conftest import Killed, Mortal, Shaky, World, session

PARTS = 4


class Export:
    """A body in steps: a file and a checkpoint for each part, as owners are told to write."""

    def __init__(self) -> None:
        self.steps: Counter[int] = Counter()
        self.gate = asyncio.Event()
        self.hold_at: int | None = None

    async def __call__(self, job: JobContext) -> None:
        begin = (job.state or {"next": 0})["next"]
        for part in range(begin, PARTS):
            self.steps[part] += 1
            await job.progress(part, PARTS, "parts")
            if part == self.hold_at:
                await self.gate.wait()
            await job.write(f"part-{part}.ndjson", b"%d\n" % part)
            await job.checkpoint({"next": part + 1})
        await job.progress(PARTS, PARTS)
        job.answer({"output": [job.url(f"part-{part}.ndjson") for part in range(PARTS)]})


async def finish(world: World, runner: Runner) -> None:
    for _ in range(3):
        await runner.look()
        await runner.settle()


async def complete(world: World, id_: str) -> Job:
    """The job is done, with every part once and nothing beside."""
    job = await world.job(id_)
    assert job.state == "done" and job.failure is None and job.lease is None
    assert [f.name for f in job.files] == [f"part-{n}.ndjson" for n in range(PARTS)]
    assert world.stored(job) == {f.stored for f in job.files}
    for number, file in enumerate(job.files):
        assert await world.files.content(job.id, file) == b"%d\n" % number
    assert job.result is not None and len(job.result["output"]) == PARTS
    assert await world.ledger.scan(SLOT) == []
    return job


async def test_a_job_runs_to_its_end(world: World) -> None:
    job = await world.submit()
    await finish(world, world.runner({"work": Export()}))
    done = await complete(world, job.id)
    assert done.attempts == 1 and done.progress.header == "4/4"
    assert done.created <= (done.started or 0) <= (done.finished or 0) < done.expires


async def test_takeover_goes_on_from_the_checkpoint(world: World) -> None:
    job = await world.submit()
    slow, quick = Export(), Export()
    slow.hold_at = 2
    first, second = world.runner({"work": slow}), world.runner({"work": quick})
    await first.look()
    while slow.steps[2] == 0:
        await asyncio.sleep(0.001)
    assert await second.look() == 0
    world.wait(world.rules.lease)
    assert await second.look() == 1
    await second.settle()
    assert quick.steps == {2: 1, 3: 1}
    done = await complete(world, job.id)
    assert done.attempts == 2
    # The stalled holder wakes up: what it does has no effect.
    slow.gate.set()
    await first.settle()
    assert slow.steps == {0: 1, 1: 1, 2: 1}
    after = await world.job(job.id)
    assert after == done
    await world.queue().cancel(job.id, remove=True)


async def test_a_renewed_lease_is_not_taken_over(world: World) -> None:
    await world.submit()
    export = Export()
    export.hold_at = 1
    first, second = world.runner({"work": export}), world.runner({"work": export})
    await first.look()
    while export.steps[1] == 0:
        await asyncio.sleep(0.001)
    for _ in range(10):
        world.wait(world.rules.lease / 2)
        await first.look()
        assert await second.look() == 0
    export.gate.set()
    await first.settle()
    assert export.steps == dict.fromkeys(range(PARTS), 1)


@pytest.mark.parametrize("acts", [False, True])
async def test_a_crash_at_any_step_loses_nothing(world: World, acts: bool) -> None:
    """Kill the first runner at every operation of its ledger; a second one takes over."""
    for last in range(1, 200):
        job = await world.submit()
        export = Export()
        mortal = Mortal(world.ledger, last, acts=acts)
        first = world.runner({"work": export}, mortal)
        try:
            await finish(world, first)
        except Killed:
            await first.settle()
        whole = mortal.count < last
        before = export.steps.copy()
        world.wait(world.rules.lease)
        second = world.runner({"work": export})
        await finish(world, second)
        await complete(world, job.id)
        repeated = [part for part in range(PARTS) if export.steps[part] > 1]
        assert len(repeated) <= 1, "only the step that was under way is done again"
        assert all(export.steps[part] >= 1 for part in range(PARTS))
        if whole:
            assert export.steps == before
            break
    else:
        pytest.fail("the job never ran through")
    assert last > 15


@pytest.mark.parametrize("seed", range(5))
async def test_runners_share_the_work(world: World, seed: int) -> None:
    runs: Counter[str] = Counter()

    async def body(job: JobContext) -> None:
        runs[job.job.id] += 1
        await job.checkpoint({"at": 1})
        await job.progress(1, 1)

    jobs = [await world.submit(who=f"{n % 6}") for n in range(30)]
    runners = [world.runner({"work": body}, Shaky(world.ledger, seed * 10 + n)) for n in range(3)]
    while await world.queue().unfinished():
        await asyncio.gather(*(runner.look() for runner in runners))
        await asyncio.sleep(0.001)
    await asyncio.gather(*(runner.settle() for runner in runners))
    assert runs == {job.id: 1 for job in jobs}
    states = {(await world.job(job.id)).state for job in jobs}
    assert states == {"done"}


async def test_width_is_respected_and_the_oldest_goes_first(world: World) -> None:
    order: list[int] = []
    gate = asyncio.Event()

    async def body(job: JobContext) -> None:
        order.append(job.request["number"])
        await gate.wait()

    for number in range(6):
        await world.submit(who=f"{9 - number}", number=number)
        world.wait(1)
    runner = world.runner({"work": body}, width=2)
    assert await runner.look() == 2
    await asyncio.sleep(0.01)
    assert await runner.look() == 0
    gate.set()
    while await world.queue().unfinished():
        await runner.look()
        await runner.settle()
    assert order == list(range(6))


async def held(world: World) -> tuple[Runner, Job, list[str]]:
    """A runner with one job that waits for ever, and what happened to its body."""
    told: list[str] = []

    async def body(job: JobContext) -> None:
        await job.write("a.ndjson", b"a")
        await job.checkpoint({"at": 1})
        told.append("runs")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled" if job.cancelled else "stopped")
            raise

    job = await world.submit()
    runner = world.runner({"work": body})
    await runner.look()
    while not told:
        await asyncio.sleep(0.001)
    return runner, job, told


async def test_cancel_while_running(world: World) -> None:
    runner, job, told = await held(world)
    await world.queue().cancel(job.id)
    assert (await world.job(job.id)).state == "running"
    await runner.look()
    await runner.settle()
    after = await world.job(job.id)
    assert after.state == "cancelled" and after.files == () and told == ["runs", "cancelled"]
    assert world.stored(job) == set()
    assert await world.ledger.scan(SLOT) == []


async def test_removal_while_running(world: World) -> None:
    runner, job, _ = await held(world)
    await world.queue().cancel(job.id, remove=True)
    await runner.look()
    await runner.settle()
    assert await world.queue().get(job.id) is None
    assert not (world.folder / job.id).exists()


async def test_cancel_of_a_job_whose_holder_died(world: World) -> None:
    _, job, _ = await held(world)
    await world.queue().cancel(job.id, remove=True)
    world.wait(world.rules.lease)
    other = world.runner({})
    await other.look()
    assert await world.queue().get(job.id) is None
    assert not (world.folder / job.id).exists()


async def test_revocation_stops_a_running_job(world: World) -> None:
    runner, job, told = await held(world)
    world.revoked.add("of-anna")
    await runner.look()
    await runner.settle()
    after = await world.job(job.id)
    assert after.state == "failed" and after.failure is not None and after.failure.status == 401
    assert told == ["runs", "stopped"] and after.files == () and world.stored(job) == set()


async def test_a_narrower_grant_stops_a_running_job(world: World) -> None:
    runner, job, _ = await held(world)

    async def narrowed(job: Job) -> object:
        return session("anna", patient="1")

    runner._reopen = narrowed  # type: ignore[assignment]
    await runner.look()
    await runner.settle()
    after = await world.job(job.id)
    assert after.failure is not None and after.failure.status == 403


async def test_revoked_before_it_ran(world: World) -> None:
    export = Export()
    job = await world.submit()
    world.revoked.add("of-anna")
    await finish(world, world.runner({"work": export}))
    after = await world.job(job.id)
    assert after.state == "failed" and not export.steps


async def test_drain_hands_back(world: World) -> None:
    runner, job, told = await held(world)
    await runner.drain(0.01)
    await runner.settle()  # a ledger elsewhere takes longer to write that down
    after = await world.job(job.id)
    assert after.state == "queued" and after.lease is None and after.attempts == 0
    assert after.checkpoint == {"at": 1} and [f.name for f in after.files] == ["a.ndjson"]
    assert told == ["runs", "stopped"] and runner.running == frozenset()
    await finish(world, world.runner({"work": Export()}))  # goes on elsewhere
    assert (await world.job(job.id)).state == "failed"  # not a checkpoint of an Export


async def test_drain_lets_short_jobs_end(world: World) -> None:
    async def body(job: JobContext) -> None:
        await asyncio.sleep(0.02)

    job = await world.submit()
    runner = world.runner({"work": body})
    runner.start()
    while job.id not in runner.running:
        await asyncio.sleep(0.001)
    await runner.drain(5)
    assert (await world.job(job.id)).state == "done"


async def test_a_submission_wakes_the_runner(world: World) -> None:
    queue = world.queue()
    ran = asyncio.Event()

    async def body(job: JobContext) -> None:
        ran.set()

    runner = Runner(queue, {"work": body}, world.reopen)
    runner.start()
    await asyncio.sleep(0.01)
    job = await world.submit()
    queue.wake.set()
    await asyncio.wait_for(ran.wait(), 0.3)
    await runner.drain()
    assert (await world.job(job.id)).state == "done"


@pytest.mark.parametrize("turns", range(12))
async def test_drain_together_with_a_submission(world: World, turns: int) -> None:
    queue = world.queue()
    runner = Runner(queue, {}, world.reopen)
    runner.start()
    await asyncio.sleep(0.001)
    queue.wake.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    await asyncio.wait_for(runner.drain(0), 1)


async def test_a_failing_look_is_not_the_last(world: World) -> None:
    ledger = Mortal(world.ledger, 3, acts=False)
    queue = world.queue(ledger)
    runner = Runner(queue, {"work": Export()}, world.reopen)
    job = await world.submit()
    runner.start()
    for _ in range(100):
        queue.wake.set()
        await asyncio.sleep(0.001)
        if ledger.count > 6:
            ledger._last = 10**9
    world.wait(world.rules.lease)
    for _ in range(200):
        queue.wake.set()
        await asyncio.sleep(0.002)
        if (await world.job(job.id)).state == "done":
            break
    await runner.drain()
    await complete(world, job.id)


async def failed(world: World, body: object) -> Job:
    job = await world.submit()
    await finish(world, world.runner({"work": body}))  # type: ignore[dict-item]
    after = await world.job(job.id)
    assert after.state == "failed"
    return after


async def test_a_problem_is_the_failure(world: World) -> None:
    async def body(job: JobContext) -> None:
        await job.write("secret.ndjson", b"x")
        raise Unprocessable("no feature", code="required")

    job = await failed(world, body)
    assert job.failure is not None and job.failure.status == 422
    assert job.failure.outcome["issue"][0]["code"] == "required"
    assert world.stored(job) == set()


async def test_an_unexpected_error_says_nothing_of_itself(world: World) -> None:
    async def body(job: JobContext) -> None:
        raise KeyError("Ivan Petrenko")

    job = await failed(world, body)
    assert job.failure is not None and job.failure.status == 500
    assert job.failure.outcome["issue"][0]["diagnostics"] == UNEXPECTED


async def test_what_processed_too_little_is_not_done(world: World) -> None:
    async def body(job: JobContext) -> None:
        await job.progress(0, 12)

    job = await failed(world, body)
    assert job.failure is not None
    assert job.failure.outcome["issue"][0]["diagnostics"] == SHORT


async def test_attempts_have_a_cap(world: World) -> None:
    job = await world.submit()
    gate = asyncio.Event()

    async def body(context: JobContext) -> None:
        await gate.wait()

    for _ in range(world.rules.attempts):
        assert await world.runner({"work": body}).look() == 1
        world.wait(world.rules.lease)
    assert await world.runner({"work": body}).look() == 0
    after = await world.job(job.id)
    assert after.failure is not None
    assert after.failure.outcome["issue"][0]["diagnostics"] == SILENT
    gate.set()
    await asyncio.sleep(0.01)
    assert await world.job(job.id) == after


async def test_kinds_without_a_body_wait(world: World) -> None:
    job = await world.submit("later")
    assert await world.runner({"work": Export()}).look() == 0
    assert (await world.job(job.id)).state == "queued"
