"""The patients of a clinician as one scan: what every patient permits, by the memory store, by the
index and by counting here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest

from fhir_server.search import plan
from fhir_server.search.plan import EachPatient, InPatient, Not, Predicate, Scan, Search, SortKey
from fhir_server.search.values import DateValue, IndexValues, TokenValue
from fhir_server.store.memory import MemoryStore
from fhir_server.store.sqlite import panel, roads
from fhir_server.store.sqlite.opening import open_store
from fhir_server.store.sqlite.panel import Panels
from tests.store.building import Bench, values, walk

DAY = 86_400_000_000
PATIENTS = tuple(f"p{number}" for number in range(60))
SHARED = plan.TokenIs("_shared", "", "true")
SECRET = plan.TokenIs("_label", "s", "PSY")
RULES: tuple[Predicate, ...] = (
    plan.TRUE,
    plan.FALSE,
    Not(SECRET),
    plan.Any((plan.TokenIs("code", "c", "1"), plan.UpdatedIs("lt", 0, 1_050_000))),
    plan.Dated(0, 12 * DAY),
    Not(plan.TokenIs("_label", "s", "nobody bears it")),
    plan.StringIs("code", "not in a posting list"),
)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Bench, Bench]]:
    with asyncio.Runner() as runner:

        async def opened() -> tuple[Bench, Bench]:
            memory, sqlite = MemoryStore(), await open_store(tmp_path, "serve")
            return Bench(memory, runner), Bench(sqlite, runner)

        benches = runner.run(opened())
        yield benches
        runner.run(benches[1].store.close())


def _filled(random: Random, benches: tuple[Bench, Bench], *, shared: bool) -> list[IndexValues]:
    """Observations, most of one patient, some of none, some of several."""
    made = []
    for number in range(240):
        several = random.choice((2, 3)) if shared and number % 9 == 0 else 1
        patients = tuple(random.sample(PATIENTS, 0 if number % 31 == 0 else several))
        tokens: list[Any] = [TokenValue("code", "c", random.choice("112"))]
        if number % 7 == 0:
            tokens.append(TokenValue("_label", "s", "PSY"))
        if len(patients) > 1:
            tokens.append(TokenValue("_shared", "", "true"))
        day = random.randrange(25) * DAY
        tokens.append(DateValue("date", day, day + DAY))
        found = values(*tokens, date=day, patients=patients)
        made.append(found)
        for bench in benches:
            bench.apply(bench.change(f"Observation/{number}", found))
    return made


def _each(random: Random, rules: tuple[Predicate, ...]) -> EachPatient:
    by = {patient: random.choice(rules) for patient in PATIENTS if random.random() < 0.8}
    return EachPatient(by, random.choice(rules), shared=SHARED)


def _searches(random: Random) -> Iterator[Search]:
    """Panels of several sizes, with and without consents, with tests that an index makes."""
    for _ in range(12):
        ids = tuple(random.sample(PATIENTS, random.choice((2, 5, 30, 60))))
        rules = tuple(random.sample(RULES, random.choice((1, 2, 3))))
        parts: list[Predicate] = [InPatient(ids)]
        if random.random() < 0.8:
            parts.append(plan.TokenIs("code", None, "1"))
        if random.random() < 0.8:
            parts.append(_each(random, rules))
        if random.random() < 0.2:
            parts.append(Not(SECRET))
        if random.random() < 0.3:
            parts.append(plan.DateIs("date", random.choice(("ge", "lt", "eq")), 9 * DAY, 10 * DAY))
        random.shuffle(parts)
        for descending in (True, False):
            sort = (SortKey("_main", "main", descending=descending),)
            yield Search((Scan("Observation", plan.All(tuple(parts))),), sort, count=7)


def _judged(search: Search, found: IndexValues) -> bool:
    """By the words of the plan, without a store, what needs no lastUpdated."""

    def holds(predicate: Predicate) -> bool:
        match predicate:
            case plan.All(parts):
                return all(map(holds, parts))
            case plan.Any(parts):
                return any(map(holds, parts))
            case plan.Not(part):
                return not holds(part)
            case plan.InPatient(ids):
                return not set(ids).isdisjoint(found.patients)
            case plan.TokenIs(param, _, code):
                return any((t.param, t.code) == (param, code) for t in found.tokens)
            case plan.EachPatient():
                return all(holds(predicate.of(patient)) for patient in found.patients)
            case plan.Dated(lo, hi):
                return lo <= found.date < hi
            case _:
                return False

    return holds(search.scans[0].where)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_index_judges_a_panel_as_the_memory_store_does(
    stores: tuple[Bench, Bench], seed: int, shared: bool
) -> None:
    random = Random(seed)
    memory, sqlite = stores
    _filled(random, stores, shared=shared)
    split = Panels._made
    made: list[bool] = []

    def noted(self: Panels, *asked: Any) -> Any:
        found = split(self, *asked)
        made.append(found is not None)
        return found

    with (
        mock.patch.multiple(roads, COUNTED=8, FEW=4),
        mock.patch.object(panel, "SLICE", 7),
        mock.patch.object(panel, "RULES", (64, 1, 0)[seed]),
        mock.patch.object(Panels, "_made", noted),
    ):
        for search in _searches(random):
            assert walk(sqlite, search) == walk(memory, search), search
            for total in ("exact", "limited"):
                counting = Search(search.scans, search.sort, 0, total=total)
                assert sqlite.page(counting).total == memory.page(counting).total
    assert sum(made) > len(made) // 2


@pytest.mark.parametrize("shared", [False, True])
def test_a_panel_finds_what_counting_says(stores: tuple[Bench, Bench], shared: bool) -> None:
    random = Random(11)
    made = _filled(random, stores, shared=shared)
    each = _each(random, (Not(SECRET), plan.TokenIs("code", "c", "1"), plan.Dated(0, 12 * DAY)))
    where = plan.All((InPatient(PATIENTS[:40]), each))
    search = Search((Scan("Observation", where),), count=9, total="exact")
    expected = [f"Observation/{n}" for n, found in enumerate(made) if _judged(search, found)]
    found, _ = walk(stores[1], search)
    assert 10 < len(expected) < len(made)
    assert sorted(found) == sorted(expected)
    assert stores[1].page(search).total == len(expected)


def test_no_body_is_looked_into(stores: tuple[Bench, Bench]) -> None:
    random = Random(5)
    _filled(random, stores, shared=False)
    where = plan.All((InPatient(PATIENTS[:50]), _each(random, (Not(SECRET), plan.TRUE))))
    search = Search((Scan("Observation", where),), count=5)
    expected = stores[0].page(search)
    with mock.patch("fhir_server.store.sqlite.view.View.along") as along:
        page = stores[1].page(search)
    assert not along.called
    assert (page.total, page.matches) == (expected.total, expected.matches)


def test_a_mark_that_is_forgotten_is_seen_here(stores: tuple[Bench, Bench]) -> None:
    """The tests above go red if what is of several patients is judged by one of them."""
    random = Random(3)
    _filled(random, stores, shared=True)
    with mock.patch.object(Panels, "_there", return_value=False):
        each = _each(random, (Not(plan.StringIs("code", "x")), plan.FALSE))
        search = Search((Scan("Observation", plan.All((InPatient(PATIENTS), each))),), count=5)
        assert walk(stores[1], search)[0] != walk(stores[0], search)[0]
