"""Work on the event loop is done in turns: what arrives meanwhile does not wait for all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import StringValue
from fhir_server.store.sqlite import store as sqlite
from fhir_server.store.sqlite.opening import open_store
from fhir_server.store.sqlite.rows import Budget, Exceeded
from fhir_server.store.sqlite.turns import PASS, REMEMBERED, Turns
from tests.store.building import Bench, values


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """Notes in which pass of the loop something was done. ``cost``: seconds of each."""

    def __init__(self, cost: float) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.done: list[tuple[str, int]] = []
        self._cost = cost
        self._pass = 0

    async def count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._pass += 1

    def _work(self, name: str) -> str:
        self.clock.now += self._cost
        self.done.append((name, self._pass))
        return name

    async def ask(self, name: str) -> str:
        return await self.turns.run(lambda: self._work(name))


async def passes(cost: float, names: str) -> list[tuple[str, int]]:
    loop = Loop(cost)
    counting = asyncio.create_task(loop.count())
    asked = [asyncio.create_task(loop.ask(name)) for name in names]
    assert "".join(await asyncio.gather(*asked)) == names
    counting.cancel()
    return loop.done


async def test_what_takes_long_has_a_pass_each_in_the_order_of_coming() -> None:
    done = await passes(PASS, "abcdef")
    assert [name for name, _ in done] == list("abcdef")
    assert len({number for _, number in done}) == 6


async def test_what_is_short_waits_for_nothing() -> None:
    done = await passes(PASS / 10, "abcdef")
    assert {number for _, number in done} == {0}


async def test_after_a_while_the_loop_is_as_free_as_before() -> None:
    loop = Loop(PASS)
    for name in "abc":
        await loop.ask(name)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert loop.turns._free


async def test_who_goes_away_keeps_nobody_waiting() -> None:
    loop = Loop(PASS)
    asked = [asyncio.create_task(loop.ask(name)) for name in "abcdef"]
    await asyncio.sleep(0)
    asked[1].cancel()  # its turn is the next
    asked[3].cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*asked, return_exceptions=True)
    assert [name for name, _ in loop.done] == list("acef")
    given = [asyncio.create_task(loop.ask(name)) for name in "xyz"]
    await asyncio.sleep(0)
    loop.turns._next()  # y has its turn, and is gone before it takes it
    given[1].cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*given, return_exceptions=True)
    assert [name for name, _ in loop.done][4:] == ["x", "z"]


async def test_an_error_gives_the_turn_away() -> None:
    loop = Loop(PASS)

    def fail() -> None:
        loop.clock.now += PASS
        raise Exceeded

    for _ in range(3):
        with pytest.raises(Exceeded):
            await loop.turns.run(fail)
    async with asyncio.timeout(20):
        assert await loop.ask("a") == "a"


def test_the_last_dear_ones_are_remembered() -> None:
    turns = Turns()
    for number in range(REMEMBERED + 1):
        turns.remember(number)
    turns.remember(1)
    turns.remember(-9)
    assert not turns.remembers(0) and not turns.remembers(2)
    assert turns.remembers(1) and turns.remembers(-9)


@pytest.fixture
def sqlite_bench(tmp_path: Path) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        store = runner.run(open_store(tmp_path, "serve"))
        yield Bench(store, runner)
        runner.run(store.close())


def test_a_search_known_as_dear_is_not_tried_again_while_its_asker_waits(
    sqlite_bench: Bench,
) -> None:
    backend, store = sqlite_bench, sqlite_bench.store
    assert isinstance(store, sqlite.SqliteStore)
    backend.apply(
        *(backend.change(f"A/{n}", values(StringValue("s", f"t{n}"))) for n in range(600))
    )
    dear = Search((Scan("A", plan.StringIs("s", "99", "contains")),), total="exact")
    tried: list[int] = []
    real = sqlite.SqliteStore._run_inline

    def noted(self: sqlite.SqliteStore, search: Search, most: int) -> object:
        tried.append(most)
        return real(self, search, most)

    with (
        mock.patch.object(sqlite, "INLINE", 100),
        mock.patch.object(sqlite, "CROWDED", 20),
        mock.patch.object(sqlite.SqliteStore, "_run_inline", noted),
    ):
        pages = backend.do(store.run(dear)), backend.do(store.run(dear))
        assert tried == [100, 100]  # nothing of the asker's waits: it may be cheaper by now
        with mock.patch.object(type(store._lane), "mine", 4):
            assert backend.do(store.run(dear)).total == pages[0].total == 6
            assert tried == [100, 100]
            other = Search((Scan("A", plan.StringIs("s", "98", "contains")),), total="exact")
            assert backend.do(store.run(other)).total == 6
            assert tried == [100, 100, 25]


def test_a_budget_looks_at_the_clock_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    looks: list[float] = []

    def look() -> float:
        looks.append(clock.now)
        return clock.now

    monkeypatch.setattr("fhir_server.store.sqlite.rows.perf_counter", look)
    budget = Budget(20_000, inline=True, seconds=0.05)
    for _ in range(1000):
        budget.spend(10)
    assert len(looks) <= 21
    clock.now = 0.06
    with pytest.raises(Exceeded):
        for _ in range(60):
            budget.spend(10)
