"""Pages while resources move: what stays as it is and permitted comes exactly once."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from unittest import mock

import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.search import plan
from fhir_server.search.plan import Cursor, Scan, Search, SortKey
from fhir_server.search.values import ReferenceValue
from fhir_server.store.base import ChangeSet
from fhir_server.store.elastic import index, searching
from fhir_server.store.elastic.index import Index
from tests.elastic.test_following import BONE, body, follow, searched
from tests.store.building import Bench, values

STAYING, MOVING = 12, 6
ORDERS = (
    plan.DEFAULT_SORT,
    (SortKey("_lastUpdated", "updated"),),
    (SortKey("_lastUpdated", "updated", descending=True),),
)


def write(bench: Bench, id_: str, date: int, said: str = "bone") -> None:
    made = values(date=date)
    bench.apply(bench.change(f"Condition/{id_}", made, body=body(id_, said)))


def filled(bench: Bench) -> None:
    for number in range(STAYING):
        write(bench, f"s{number}", number // 2)
    for number in range(MOVING):
        write(bench, f"m{number}", number)


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("page", [1, 3, 7])
def test_what_stays_comes_once(
    bench: Bench, sort: tuple[SortKey, ...], seed: int, page: int
) -> None:
    """Whenever the engine has named candidates, something moves before the store is asked."""
    chance = Random(seed)
    filled(bench)
    follow(bench)
    ask = Index.hits

    async def hits(self: Index, *given: Any) -> Any:
        found = await ask(self, *given)
        await moved()
        return found

    async def moved() -> None:
        if chance.random() < 0.4:
            id_, said = f"m{chance.randrange(MOVING)}", chance.choice(["bone", "liver"])
            made = values(date=chance.randint(-1, STAYING))
            change = bench.change(f"Condition/{id_}", made, body=body(id_, said))
            await bench.store.apply(ChangeSet((change,)))
            bench._versions[change.key] = change.version
            if chance.random() < 0.5:
                await searched(bench).follower.follow()

    limits = mock.patch.object(index, "PAGE", page), mock.patch.object(searching, "PAGE", page)
    found: list[str] = []
    after: Cursor | None = None
    with limits[0], limits[1], mock.patch.object(Index, "hits", hits):
        for _ in range(60):
            wanted = Search((Scan("Condition", BONE),), sort, 2, after, total="none")
            try:
                got = bench.page(wanted)
            except Unavailable:  # too much has moved: the client asks again
                continue
            found += [stored.key.id for stored in got.matches]
            after = got.next
            if after is None:
                break
    staying = [id_ for id_ in found if id_.startswith("s")]
    assert sorted(staying) == sorted(f"s{number}" for number in range(STAYING))


def test_includes_that_one_answer_does_not_hold(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a page is found again by its places."""
    monkeypatch.setattr(plan, "INCLUDE_LIMIT", 3)
    for number in range(8):
        bench.put(f"Patient/{number}")
        made = values(ReferenceValue("subject", "Patient", str(number), "", ""), date=number)
        name = f"Condition/c{number}"
        bench.apply(bench.change(name, made, body=body(f"c{number}", "bone")))
    follow(bench)
    include = plan.Include(Scan("Condition"), "subject", (Scan("Patient"),))
    search: Search = Search((Scan("Condition", BONE),), count=5, includes=(include,), total="none")
    for page in (1, 2, 1001):
        matches: list[str] = []
        included: list[str] = []
        with mock.patch.object(index, "PAGE", page), mock.patch.object(searching, "PAGE", page):
            at = search
            for _ in range(10):
                got = bench.page(at)
                matches += [stored.key.id for stored in got.matches]
                included += [stored.key.id for stored in got.included]
                if got.rest is not None:
                    at = replace(at, rest=got.rest)
                elif got.next is not None:
                    at = replace(at, after=got.next, rest=None)
                else:
                    break
        assert matches == [f"c{number}" for number in range(7, -1, -1)]
        assert sorted(included) == [str(number) for number in range(8)]


def test_what_moves_to_the_end_skips_nothing(bench: Bench) -> None:
    """Two resources move behind all others after the engine has named them as the first."""
    for id_, date in (("m1", 11), ("m2", 10), ("s3", 9), ("s2", 8), ("s1", 7)):
        write(bench, id_, date)
    follow(bench)
    ask, asked = Index.hits, 0

    async def hits(self: Index, *given: Any) -> Any:
        nonlocal asked
        found, asked = await ask(self, *given), asked + 1
        if asked == 1:
            for id_ in ("m1", "m2"):
                change = bench.change(f"Condition/{id_}", values(date=0), body=body(id_, "bone"))
                await bench.store.apply(ChangeSet((change,)))
        return found

    with mock.patch.object(searching, "PAGE", 3), mock.patch.object(index, "PAGE", 3):
        wanted = Search((Scan("Condition", BONE),), count=2, total="none")
        with mock.patch.object(Index, "hits", hits):
            first = bench.page(wanted)
        second = bench.page(replace(wanted, after=first.next))
    found = [stored.key.id for stored in (*first.matches, *second.matches)]
    assert found[:3] == ["s3", "s2", "s1"]
