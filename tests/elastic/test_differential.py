"""Random resources and plans that ask for words: with an engine beside it a store finds what it
finds alone, in the same order, with the same totals, cursors and includes, however far the
engine has come and however small its pages are.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.store.elastic import follower, index, searching
from fhir_server.store.elastic.cluster import connect
from fhir_server.store.memory import MemoryStore
from tests.elastic.building import Told
from tests.elastic.conftest import dropped, engine_place
from tests.store.building import Bench
from tests.store.generated import (
    PARAMS,
    SAID,
    leaves,
    predicates,
    random_history,
    searches,
    sorts,
    types,
)
from tests.store.test_differential import all_pages, write

pytestmark = pytest.mark.slow

words = st.builds(
    plan.TextHas,
    st.sampled_from(["_text", "_content"]),
    st.lists(st.sampled_from(SAID), min_size=1, max_size=2).map(tuple),
    st.booleans(),
)
worded = st.one_of(
    words,
    st.builds(lambda w, p: plan.All((w, p)), words, st.one_of(leaves, predicates)),
    st.builds(lambda w, p: plan.Any((w, plan.All((p, w)))), words, leaves),
    st.builds(lambda w, p: plan.All((w, plan.Not(p))), words, st.one_of(words, leaves)),
    st.builds(lambda w, p: plan.Any((w, p)), words, leaves),
    st.builds(plan.Not, words),
    st.builds(lambda w, t: plan.Chain("a", (Scan(t, w),)), words, types),
    st.builds(lambda w, t: plan.Has(Scan(t, w), "a"), words, types),
)
asked = st.builds(
    lambda s, w, t, o, c: Search(
        tuple(Scan(type_, where) for type_, where in zip(t, w, strict=False)),
        o,
        c,
        None,
        s.includes,
        s.total,
        s.as_of,
    ),
    searches,
    st.lists(worded, min_size=1, max_size=2),
    st.lists(types, min_size=2, max_size=2),
    st.one_of(st.just(plan.DEFAULT_SORT), sorts),
    st.integers(0, 3),
)


places = pytest.fixture(scope="module", name="place", params=["small", "real"])(engine_place)


@pytest.mark.parametrize("page", [1, 3, 1001])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9), come=st.integers(0, 3), some=st.lists(asked, min_size=8))
def test_the_same_as_alone(
    place: tuple[str, str], page: int, seed: int, come: int, some: list[Search]
) -> None:
    chance = Random(seed)
    limits: list[Any] = [
        mock.patch.object(index, "PAGE", page),
        mock.patch.object(searching, "PAGE", page),
        mock.patch.object(follower, "PIECE", chance.choice([1, 4, 500])),
        mock.patch.object(follower, "PIECES", chance.choice([1, 10])),
        mock.patch.object(searching, "JOINED", chance.choice([1, 1000])),
    ]
    history = random_history(chance)
    with asyncio.Runner() as runner:
        for limit in limits:
            limit.start()
        try:
            beside = Bench(Told(MemoryStore(), connect(*place), PARAMS), runner)
            alone = Bench(MemoryStore(), runner)
            cuts = sorted(chance.randrange(len(history) + 1) for _ in range(come))
            live: dict[str, set[str]] = {"beside": set(), "alone": set()}
            for start, end in zip([0, *cuts], [*cuts, len(history)], strict=True):
                write(beside, history[start:end], live["beside"])
                write(alone, history[start:end], live["alone"])
                if end < len(history) or come == 3:
                    assert runner.run(beside.store.follower.follow())  # type: ignore[attr-defined]
            for search in some:
                assert all_pages(beside, search) == all_pages(alone, search), search
            runner.run(dropped(beside.store))
        finally:
            for limit in limits:
                limit.stop()
