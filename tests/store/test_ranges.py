"""Ranges beside codes and dates: every way into them finds, counts and orders alike."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest

from fhir_server.search import plan
from fhir_server.search.explain import Trace
from fhir_server.search.plan import Scan, Search, SortKey
from fhir_server.search.values import DateValue, IndexValues, QuantityValue, TokenValue
from fhir_server.store.base import Store
from fhir_server.store.memory import MemoryStore
from fhir_server.store.sqlite import ranges, roads, streams
from fhir_server.store.sqlite.opening import open_store
from tests.store.building import Bench, values

SECOND = 1_000_000
PREFIXES: tuple[plan.Prefix, ...] = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
LIMITS = {
    "as shipped": {"FEW": roads.FEW},
    "collect everything": {"FEW": 0, "COUNTED": 2, "COLLECTED": 10**6, "WALKED": 10**9},
    "walk along the code": {"FEW": 0, "COUNTED": 2, "COLLECTED": 10**6, "WALKED": 1},
    "never collect": {"FEW": 0, "COUNTED": 2, "COLLECTED": 1},
    "test along the code": {"FEW": 0, "COUNTED": 2, "COLLECTED": 1, "WALKED": 1},
    "count everything": {"FEW": 0, "COUNTED": 10**6, "COLLECTED": 2},
}


def result(chance: Random) -> IndexValues:
    """A resource with up to three codes and up to two quantities, some of them ranges."""
    moment = chance.randrange(60) * SECOND
    found: list[Any] = [
        TokenValue("code", chance.choice(("", "s", "t")), chance.choice(("a", "b", "c", "b\0")))
        for _ in range(chance.randrange(4))
    ]
    found.append(TokenValue("status", "", chance.choice("xxxy")))
    for _ in range(chance.choice((0, 1, 1, 1, 2))):
        lo = float(chance.randrange(10))
        unit = chance.choice(("mg", "mg", "stone"))
        hi = lo + (chance.choice((0, 3)) if unit == "stone" else 0)
        canonical = (lo / 8, hi / 8, "g") if unit == "mg" else (0.0, 0.0, "")
        found.append(QuantityValue("value", lo, hi, "u", unit, unit, *canonical))
    if chance.random() < 0.9:
        found.append(DateValue("date", moment, moment + SECOND))
    return values(*dict.fromkeys(found), date=moment)


def quantity(chance: Random) -> plan.Predicate:
    prefix, value = chance.choice(PREFIXES), float(chance.randrange(-1, 11))
    match chance.randrange(3):
        case 0:
            return plan.QuantityIs("value", prefix, value, value - 0.5, value + 0.5)
        case 1:
            bounds = value / 8, (value - 0.5) / 8, (value + 0.5) / 8
            return plan.QuantityIs("value", prefix, *bounds, canonical_unit="g")
        case _:
            return plan.QuantityIs("value", prefix, value, value, value + 1, code="mg")


def search(chance: Random) -> Search:
    parts = [quantity(chance)]
    if chance.random() < 0.8:
        code, system = chance.choice("abcd"), chance.choice((None, None, "", "s"))
        parts.append(plan.TokenIs("code", system, code))
        if chance.random() < 0.5:  # as it is written, and as a system without case has it
            parts[1] = plan.Any((parts[1], plan.TokenIs("code", system, f"{code}\0")))
    if chance.random() < 0.3:
        start = chance.randrange(60) * SECOND
        parts.append(plan.DateIs("date", chance.choice(PREFIXES), start, start + 20 * SECOND))
    if chance.random() < 0.4:
        parts.append(plan.TokenIs("status", None, chance.choice("xy")))
    chance.shuffle(parts)
    sort = SortKey("_main", "main", chance.random() < 0.5)
    total = chance.choice(("none", "limited", "exact"))
    where = plan.All(tuple(parts)) if len(parts) > 1 else parts[0]
    return Search((Scan("Thing", where),), (sort,), chance.choice((0, 3, 20)), total=total)  # type: ignore[arg-type]


async def opened(path: Path) -> tuple[Store, Store]:
    sqlite: Any = await open_store(path, "serve")
    sqlite.writer._writer._connection.execute("PRAGMA synchronous = OFF")
    return MemoryStore(), sqlite


@pytest.mark.parametrize("limits", LIMITS)
def test_every_road_finds_the_same(tmp_path: Path, limits: str) -> None:
    chance = Random(limits)
    with (
        asyncio.Runner() as runner,
        mock.patch.multiple(roads, **LIMITS[limits]),
        mock.patch.multiple(streams, _CHUNK=8),
        mock.patch.object(ranges, "MOST_TESTED", chance.choice((4000, 20))),
    ):
        memory, sqlite = (Bench(s, runner) for s in runner.run(opened(tmp_path)))
        try:
            kinds = [result(chance) for _ in range(160)]
            for bench in memory, sqlite:
                bench.apply(*(bench.change(f"Thing/{n}", v) for n, v in enumerate(kinds)))
                bench.delete("Thing/7")
            found = 0
            for _ in range(250):
                asked = search(chance)
                page = memory.page(asked)
                assert sqlite.page(asked) == page, asked
                found += len(page.matches)
            assert found > 400
        finally:
            runner.run(sqlite.store.close())


RATE = plan.TokenIs("code", "s", "rate")


@pytest.mark.parametrize("rate", (RATE, plan.Any((RATE, plan.TokenIs("code", "s", "rate\0")))))
def test_a_common_code_and_a_range_are_counted_in_the_index(
    tmp_path: Path, rate: plan.Predicate
) -> None:
    """The open case of the design: neither the code nor the range is selective."""

    tallied: list[int | None] = []
    tally = roads.Roads.tally

    def noted(self: roads.Roads, scan: Scan, limit: int) -> int | None:
        tallied.append(tally(self, scan, limit))
        return tallied[-1]

    async def steps(where: plan.Predicate) -> tuple[int, list[str]]:
        trace = Trace()
        page = await store.run(Search((Scan("Thing", where),)), trace)
        return page.total or 0, [str(step) for step in trace.steps]

    with asyncio.Runner() as runner:
        _, store = runner.run(opened(tmp_path))
        bench = Bench(store, runner)
        made = [
            values(
                TokenValue("code", "s", "rate"),
                QuantityValue("value", n % 100, n % 100, "", "", "", 0, 0, ""),
                date=n,
            )
            for n in range(900)
        ]
        bench.apply(*(bench.change(f"Thing/{n}", v) for n, v in enumerate(made)))
        with (
            mock.patch.multiple(roads, WALKED=1),
            mock.patch.object(roads.Roads, "tally", noted),
        ):
            often, told = runner.run(
                steps(plan.All((rate, plan.QuantityIs("value", "gt", 20, 19, 21))))
            )
        assert often == 711 and tallied == [711]
        assert any("code is s|rate" in line and " drives" in line for line in told), told
        looked = next(line for line in told if "candidates" in line)
        assert int(looked.split("actual ")[1].split(",")[0].rstrip(")")) < 60, told
        rare, told = runner.run(steps(plan.All((rate, plan.QuantityIs("value", "gt", 98, 97, 99)))))
        assert rare == 9
        assert any("9 collected resources drive" in line for line in told), told
        runner.run(store.close())
