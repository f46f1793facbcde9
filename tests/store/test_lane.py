"""The lane of slow searches is shared fairly, refuses at its end and loses no thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.model.problem import TooManyRequests
from fhir_server.store.asking import asking
from fhir_server.store.sqlite.lane import Lane


class Work:
    """Slow work of several that goes on one by one, when the test says so."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.begun: list[str] = []
        self._gates: dict[str, list[threading.Event]] = {}

    def _do(self, name: str, gate: threading.Event) -> str:
        self.begun.append(name)
        assert gate.wait(20)
        return name

    def ask(self, name: str, **how: Any) -> asyncio.Task[str]:
        gate = threading.Event()
        self._gates.setdefault(name, []).append(gate)

        async def asked() -> str:
            asking.set(name)
            return await self.lane.run(self._do, name, gate, **how)

        return asyncio.create_task(asked())

    def end(self, name: str) -> None:
        """The oldest of somebody's."""
        self._gates[name].pop(0).set()

    async def ask_and_end(self, name: str) -> str:
        task = self.ask(name)
        await asyncio.sleep(0)
        self._gates[name].pop().set()
        return await task

    async def settle(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not ready():
                await asyncio.sleep(0.005)


async def test_nobody_has_all_threads() -> None:
    lane = Lane(threads=3)
    work = Work(lane)
    greedy = [work.ask("greedy") for _ in range(6)]
    await work.settle(lambda: len(work.begun) == 2)
    await asyncio.sleep(0.05)
    assert work.begun == ["greedy"] * 2
    other = work.ask("other")
    await work.settle(lambda: "other" in work.begun)
    work.end("other")
    assert await other == "other"
    for _ in greedy:
        work.end("greedy")
    assert await asyncio.gather(*greedy) == ["greedy"] * 6
    lane.close()


async def test_who_has_used_the_least_goes_next() -> None:
    clock = [0.0]
    lane = Lane(patience=1000.0, threads=1, clock=lambda: clock[0])
    work = Work(lane)
    first = [work.ask("greedy") for _ in range(3)]
    await work.settle(lambda: work.begun == ["greedy"])
    others = [work.ask("other"), work.ask("third")]
    await asyncio.sleep(0)
    clock[0] = 5.0
    for name in ("greedy", "other", "third", "greedy", "greedy"):
        await work.settle(lambda name=name: work.begun[-1] == name)
        work.end(name)
        await asyncio.sleep(0.02)
    await asyncio.gather(*first, *others)
    assert work.begun == ["greedy", "other", "third", "greedy", "greedy"]
    lane.close()


async def test_what_was_used_is_forgotten() -> None:
    clock = [0.0]
    lane = Lane(threads=1, clock=lambda: clock[0])
    work = Work(lane)
    for name, used in (("once", 100.0), ("now", 1.0)):
        task = work.ask(name)
        await work.settle(lambda name=name: work.begun[-1:] == [name])
        clock[0] += used
        work.end(name)
        await task
        if name == "once":
            clock[0] += 1000.0
    holding = work.ask("holding")
    await work.settle(lambda: work.begun[-1] == "holding")
    waiting = [work.ask("now"), work.ask("once")]
    await asyncio.sleep(0.01)
    work.end("holding")
    await work.settle(lambda: len(work.begun) == 4)
    assert work.begun[-1] == "once"
    for name in ("once", "now"):
        work.end(name)
    await asyncio.gather(holding, *waiting)
    lane.close()


async def test_beyond_its_end_it_is_refused_for_one_and_not_for_others() -> None:
    lane = Lane(most_waiting=2, threads=2)
    work = Work(lane)
    mine = [work.ask("greedy") for _ in range(3)]
    await work.settle(lambda: len(work.begun) == 1)
    with pytest.raises(TooManyRequests) as refused:
        await work.ask("greedy")
    assert refused.value.headers["Retry-After"]
    unlimited = work.ask("greedy", limited=False)
    other = work.ask("other")
    await work.settle(lambda: "other" in work.begun)
    assert lane.mine == 0
    asking.set("greedy")
    assert lane.mine == 4
    work.end("other")
    work._gates["greedy"].pop(3)
    for _ in (*mine, unlimited):
        work.end("greedy")
    await asyncio.gather(*mine, unlimited, other)
    lane.close()


async def test_what_cannot_be_answered_in_time_is_refused_before_it_waits() -> None:
    """One takes 3 s, so of 20 s there is room for four more behind who runs and who is spared."""
    clock = [0.0]
    lane = Lane(patience=20.0, clock=lambda: clock[0])
    work = Work(lane)
    asked = [work.ask("greedy") for _ in range(12)]
    await work.settle(lambda: work.begun == ["greedy"])
    other = work.ask("other")
    spared = work.ask("greedy", limited=False)
    await work.settle(lambda: len(work.begun) == 2)
    work.end("other")
    await other
    clock[0] = 3.0
    work.end("greedy")
    await asked[0]
    await work.settle(lambda: sum(task.done() for task in asked) == 7)
    refused = [task.exception() for task in asked if task.done()][1:]
    assert all(isinstance(error, TooManyRequests) for error in refused)
    assert [task.done() for task in asked] == [True] + [False] * 5 + [True] * 6
    with pytest.raises(TooManyRequests) as late:
        await work.ask("greedy")
    assert 3 <= int(late.value.headers["Retry-After"]) <= 15
    work._gates["greedy"][5:] = [work._gates["greedy"][11]]
    for _ in range(6):
        work.end("greedy")
    assert await asyncio.gather(*asked[1:6], spared) == ["greedy"] * 6
    assert await work.ask_and_end("greedy") == "greedy"
    clock[0] += 600.0  # what was usual then is forgotten
    many = [work.ask("greedy") for _ in range(20)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in many)
    for _ in many:
        work.end("greedy")
    await asyncio.gather(*many)
    assert not any(share.limited for share in lane._shares.values())
    lane.close()


async def test_what_runs_long_refuses_those_behind_it() -> None:
    """Nobody knows yet how long it takes: but 4 s already, so of 20 s there is room for four."""
    clock = [0.0]
    lane = Lane(patience=20.0, clock=lambda: clock[0])
    work = Work(lane)
    asked = [work.ask("greedy") for _ in range(12)]
    await work.settle(lambda: work.begun == ["greedy"])
    lane._look()
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in asked)
    clock[0] = 4.0
    lane._look()
    await work.settle(lambda: sum(task.done() for task in asked) == 7)
    assert [task.done() for task in asked] == [False] * 5 + [True] * 7
    assert all(isinstance(task.exception(), TooManyRequests) for task in asked[5:])
    for _ in range(5):
        work.end("greedy")
    assert await asyncio.gather(*asked[:5]) == ["greedy"] * 5
    lane.close()


async def test_who_goes_away_while_he_is_refused_gives_no_thread_back() -> None:
    clock = [0.0]
    lane = Lane(patience=5.0, threads=1, clock=lambda: clock[0])
    work = Work(lane)
    asked = [work.ask("one") for _ in range(3)]
    await work.settle(lambda: work.begun == ["one"])
    share = lane._shares["one"]
    turn = share.waiting[-1]
    turn.set_exception(TooManyRequests("refused"))
    share.waiting.remove(turn)
    asked[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked[2]
    for _ in range(2):
        work.end("one")
    await asyncio.gather(*asked[:2])
    assert lane._free == 1 and share.running == 0
    lane.close()


@pytest.mark.parametrize("when", ["waiting", "given", "running"])
async def test_a_client_that_goes_away_takes_no_thread_with_it(when: str) -> None:
    lane = Lane(threads=1)
    work = Work(lane)
    first = work.ask("one")
    await work.settle(lambda: work.begun == ["one"])
    gone = work.ask("two") if when != "running" else first
    await asyncio.sleep(0.01)
    if when == "given":
        lane._leave(lane._shares["one"], 0.0)  # a thread becomes free and is given at once
        lane._shares["one"].running += 1
        lane._free -= 1
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    last = work.ask("three")
    work.end("one")
    await work.settle(lambda: work.begun[-1] == "three")
    work.end("three")
    assert await last == "three"
    if when != "running":
        await first
    assert lane._free == 1 and not any(s.running or s.waiting for s in lane._shares.values())
    lane.close()


async def test_who_is_forgotten_takes_no_room() -> None:
    clock = [0.0]
    lane = Lane(clock=lambda: clock[0])
    for number in range(50):
        asking.set(str(number))
        await lane.run(len, "")
        clock[0] += 3600
    assert len(lane._shares) <= 2
    lane.close()
