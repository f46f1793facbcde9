"""Random resources and random plans: every store finds what the memory store finds,
in the same order, with the same totals and cursors, now and as of any earlier point.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.search import plan
from fhir_server.search.plan import Search
from fhir_server.store.base import Store
from fhir_server.store.memory import MemoryStore
from fhir_server.store.mongo import roads as mongo_roads
from fhir_server.store.mongo import view
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.sqlite import roads, streams, text
from fhir_server.store.sqlite.opening import open_store
from fhir_server.store.sqlite.prepared import PreparedSet
from fhir_server.store.sqlite.store import SqliteStore
from tests.mongodb import new_url
from tests.store.building import Bench
from tests.store.generated import Event, random_history, searches

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("VEHR_TEST_EXAMPLES", "4"))
"""Worlds on MongoDB, of which the stand-in takes its time; ``make prove`` has more."""


def follow(bench: Bench, most: int) -> int:
    """The index of words catches up by some versions."""
    writer: Any = bench.store.writer  # type: ignore[attr-defined]
    result = bench.do(writer.write(PreparedSet((), follow=most)))
    return int(result.followed)


def assert_words(bench: Bench) -> None:
    """The index of words says what the bodies say, as far as it has followed and at its end."""
    reader: Any = bench.store._reader  # type: ignore[attr-defined]
    connection, codec = reader.connection, reader.codec
    while True:
        assert text.miscounted(connection, codec) == 0
        for (rid,) in connection.execute("SELECT rid FROM resource").fetchall():
            assert text.holds_words(connection, codec, rid)
        if not follow(bench, 7):
            break


def write(bench: Bench, history: list[Event], live: set[str] | None = None) -> set[str]:
    live = set() if live is None else live
    for type_, id_, found, body in history:
        name = f"{type_}/{id_}"
        if found is not None:
            bench.apply(bench.change(name, found, body=body))
            live.add(name)
        elif name in live:
            bench.delete(name)
            live.remove(name)
    return live


def all_pages(bench: Bench, search: Search) -> list[Any]:
    pages: list[Any] = []
    while True:
        page = bench.page(search)
        pages.append((list(page.matches), list(page.included), page.total, page.next, page.rest))
        if page.rest is not None:
            search = replace(search, rest=page.rest)
        elif page.next is not None:
            search = replace(search, after=page.next, rest=None)
        else:
            return pages


async def _sqlite(path: Path) -> Store:
    """Nothing crashes here, so the disk need not be waited for."""
    sqlite: Any = await open_store(path, "serve")
    sqlite.writer._writer._connection.execute("PRAGMA synchronous = OFF")
    return sqlite  # type: ignore[no-any-return]


async def _mongo(_: Path) -> Store:
    return await open_mongo(new_url())


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    plans=st.lists(searches, min_size=12, max_size=12),
    limits=st.sampled_from([(64, 400, 400), (0, 400, 400), (0, 4, 4), (0, 2, 1)]),
    collected=st.sampled_from([4000, 3]),
    walked=st.sampled_from([100, 1, 10**9]),
)
def test_sqlite_answers_as_memory_does(
    seed: int,
    plans: list[Search],
    limits: tuple[int, int, int],
    collected: int,
    walked: int,
) -> None:
    """``limits`` of the planner, so small that each of its roads is taken; and includes in
    several answers."""
    few, counted, joined = limits
    with (
        mock.patch.object(plan, "INCLUDE_LIMIT", 2),
        mock.patch.multiple(roads, COLLECTED=collected, WALKED=walked),
        mock.patch.multiple(roads, FEW=few, COUNTED=counted, JOINED=joined, JOINED_SLOWLY=joined),
        mock.patch.multiple(streams, _CHUNK=joined, _MOST_CHUNK=joined * 2),
        mock.patch.object(text, "UNREAD", joined),
    ):
        compare(random_history(Random(seed)), plans, _sqlite)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    plans=st.lists(searches, min_size=8, max_size=8),
    few=st.sampled_from([1000, 3, 0]),
    joined=st.sampled_from([1000, 2, 0]),
)
def test_mongo_answers_as_memory_does(
    seed: int, plans: list[Search], few: int, joined: int
) -> None:
    with (
        mock.patch.object(plan, "INCLUDE_LIMIT", 2),
        mock.patch.object(mongo_roads, "FEW", few),
        mock.patch.object(view, "JOINED", joined),
    ):
        compare(random_history(Random(seed)), plans, _mongo)


def compare(
    history: list[Event],
    plans: list[Search],
    opened: Callable[[Path], Coroutine[Any, Any, Store]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        memory = Bench(MemoryStore(), runner)
        other = Bench(runner.run(opened(Path(folder))), runner)
        words = isinstance(other.store, SqliteStore)
        try:
            write(memory, history)
            live: set[str] = set()
            for event in history:
                write(other, [event], live)
                if words and len(event[3]) % 5 == 0:
                    follow(other, len(event[3]) % 4)
            for search in plans:
                assert all_pages(other, search) == all_pages(memory, search), search
            if words:
                assert_words(other)
            assert runner.run(other.store.counts()) == runner.run(memory.store.counts())
        finally:
            runner.run(other.store.close())
