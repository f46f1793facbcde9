"""The index follows the change feed: searches see every write, repeats change nothing, what is
erased is gone, and what is lost is made anew."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from fhir_server.formats.json import dumps
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search, TextHas
from fhir_server.store.base import EraseSet, Erasure
from fhir_server.store.elastic import follower
from fhir_server.store.elastic.cluster import connect
from fhir_server.store.elastic.index import Index
from fhir_server.store.elastic.state import ERASE, KIND, LEASE, Lease
from fhir_server.store.elastic.store import SearchedStore
from fhir_server.store.memory import MemoryStore
from tests.elastic.building import Told, inner
from tests.elastic.engine import Engine, words_in
from tests.store.building import Bench

BONE = TextHas("_content", ("bone",))


def body(id_: str, said: str) -> bytes:
    return dumps({"resourceType": "Condition", "id": id_, "note": [{"text": said}]})


def say(bench: Bench, id_: str, said: str, **other: Any) -> None:
    bench.apply(bench.change(f"Condition/{id_}", body=body(id_, said), **other))


def search(where: Any = BONE, count: int = 50) -> Search:
    return Search((Scan("Condition", where),), count=count, total="exact")


def searched(bench: Bench) -> SearchedStore:
    assert isinstance(bench.store, SearchedStore)
    return bench.store


def follow(bench: Bench) -> None:
    assert bench.do(searched(bench).follower.follow())


def erase(bench: Bench, id_: str, version: int) -> None:
    bench.do(bench.store.erase(EraseSet((Erasure(Key("Condition", id_), version),))))


@pytest.mark.parametrize("following", [True, False])
def test_a_search_sees_every_write_that_was_answered(anywhere: Bench, following: bool) -> None:
    bench = anywhere
    steps = [("a", "bone", {"a"}), ("b", "liver", {"a"}), ("b", "a bone", {"a", "b"})]
    steps += [("a", "liver", {"b"}), ("b", "", set()), ("b", "bone again", {"b"})]
    for id_, said, expected in steps:
        if said:
            say(bench, id_, said)
        else:
            bench.delete(f"Condition/{id_}")
        if following:
            follow(bench)
        assert set(bench.found(search())) == {f"Condition/{id_}" for id_ in expected}
        assert bench.page(search()).total == len(expected)


def test_a_search_waits_for_an_index_that_is_far_behind(bench: Bench, engine: Engine) -> None:
    """Nobody follows here: the search itself does."""
    with mock.patch.object(follower, "UNREAD", 3):
        for number in range(10):
            say(bench, str(number), "bone")
        assert len(bench.found(search())) == 10
    assert len(engine.index.seen) == 10


def test_a_search_that_waits_too_long_is_refused(bench: Bench) -> None:
    """Another process is following, and does not come on."""
    say(bench, "a", "bone")
    follow(bench)
    assert bench.do(bench.store.ledger.insert_unique(KIND, LEASE, {"owner": "another"}))
    say(bench, "b", "bone")
    assert len(bench.found(search())) == 2
    limits = mock.patch.multiple(follower, UNREAD=0, PATIENCE=0.1)
    with limits, pytest.raises(Unavailable, match="catching up") as caught:
        bench.found(search())
    assert caught.value.headers["Retry-After"]


def test_repeats_and_late_writes_change_nothing(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "liver")
    say(bench, "a", "bone")
    follow(bench)
    before = dict(engine.index.docs)
    state = bench.do(searched(bench).follower.states.read())
    assert state.state is not None and state.state.seq == 2
    for seq in (0, 1):  # a process that died before it could note how far it was
        kept = bench.do(searched(bench).follower.states.read())
        again = replace(state.state, seq=seq)
        assert bench.do(searched(bench).follower.states.write(kept, again))
        follow(bench)
        assert engine.index.docs == before
    bench.delete("Condition/a")
    follow(bench)
    assert not engine.index.seen


async def _always() -> bool:
    return True


def test_two_that_follow_at_once_do_no_harm(engine: Engine) -> None:
    with asyncio.Runner() as runner:
        first = Bench(Told(MemoryStore(), connect(engine.url)), runner)
        second = Told(inner(first.store), connect(engine.url))
        for number in range(30):
            say(first, str(number), "bone")

        async def both() -> list[bool]:
            return await asyncio.gather(
                searched(first).follower._follow(float("inf")),
                second.follower._follow(float("inf")),
            )

        with mock.patch.object(Lease, "keep", side_effect=_always):
            runner.run(both())
        follow(first)
        assert len(engine.indices) == 1 and len(engine.index.seen) == 30
        runner.run(second.close())


def test_it_follows_by_itself(bench: Bench, engine: Engine) -> None:
    async def work() -> None:
        async with searched(bench).following():
            for _ in range(100):
                await asyncio.sleep(0.05)
                if engine.indices and engine.index.seen:
                    break

    say(bench, "a", "bone")
    with mock.patch.object(follower, "QUIET", 0.01):
        bench.do(work())
    assert set(engine.index.seen) == {"Condition/a"}
    assert bench.do(bench.store.ledger.get(KIND, LEASE)) is None


def test_an_index_that_somebody_removed_is_made_anew(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone")
    follow(bench)
    engine.indices.clear()
    engine.aliases.clear()
    with pytest.raises(Unavailable, match="lost"):
        bench.found(search())
    assert bench.found(search()) == ["Condition/a"]
    follow(bench)
    assert set(engine.index.seen) == {"Condition/a"}
    engine.indices.clear()
    engine.aliases.clear()
    say(bench, "b", "bone")
    follow_until(bench)
    assert set(engine.index.seen) == {"Condition/a", "Condition/b"}


def follow_until(bench: Bench) -> None:
    for _ in range(5):
        if bench.do(searched(bench).follower.follow()):
            return
    raise AssertionError("it does not come up")


@pytest.mark.parametrize("how", ["revision", "seq"])
def test_an_index_of_another_program_or_store_is_not_used(
    bench: Bench, engine: Engine, how: str
) -> None:
    """A new release that reads other words; a database that was restored to an older point."""
    say(bench, "a", "bone")
    follow(bench)
    states = searched(bench).follower.states
    kept = bench.do(states.read())
    assert kept.state is not None
    other = replace(kept.state, revision="0") if how == "revision" else replace(kept.state, seq=99)
    bench.do(states.write(kept, other))
    name = set(engine.indices)
    assert bench.found(search()) == ["Condition/a"]
    follow(bench)
    assert set(engine.indices) != name and len(engine.indices) == 1


# --- erasing ----------------------------------------------------------------------------


def test_what_is_erased_is_gone(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone secretword")
    say(bench, "b", "bone")
    follow(bench)
    assert "secretword" in words_in(engine)
    erase(bench, "a", 1)
    assert bench.found(search()) == ["Condition/b"]
    assert bench.do(bench.store.scrub())
    assert "secretword" not in words_in(engine) and engine.index.merged
    assert not bench.do(bench.store.ledger.scan(ERASE))
    say(bench, "a", "bone anew", expect=0)
    follow(bench)
    assert set(engine.index.seen) == {"Condition/a", "Condition/b"}


def test_erasing_waits_for_an_engine_that_is_down(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone secretword")
    follow(bench)
    engine.fault = "broken"
    erase(bench, "a", 1)
    assert not bench.do(bench.store.scrub())
    assert len(bench.do(bench.store.ledger.scan(ERASE))) == 1
    engine.fault = ""
    assert bench.do(bench.store.scrub())
    assert "secretword" not in words_in(engine)


def test_what_was_read_before_an_erase_and_written_after_it_stays_out(
    bench: Bench, engine: Engine
) -> None:
    say(bench, "b", "liver")
    say(bench, "a", "bone secretword")  # the last of the feed, so its position is the erase's
    one = searched(bench).follower
    made = bench.do(one._piece(0, 2))
    bench.do(one._ready(2))
    erase(bench, "a", 1)
    bench.do(one.settle())
    cluster: Any = searched(bench)._cluster
    bench.do(Index(cluster, next(iter(engine.aliases))).write(made.changes, refresh=True))
    assert set(engine.index.seen) == {"Condition/b"}
    assert "secretword" not in words_in(engine)


# --- made anew --------------------------------------------------------------------------


def test_it_is_made_anew_beside_the_one_in_use(bench: Bench, engine: Engine) -> None:
    for number in range(20):
        say(bench, str(number), "bone")
    follow(bench)
    old = next(iter(engine.aliases))
    told: list[tuple[int, int]] = []
    with mock.patch.multiple(follower, PIECE=3, PIECES=1):
        name = bench.do(searched(bench).follower.rebuild())
        assert set(engine.aliases) == {old, name}
        bench.do(searched(bench).follower.follow(time.monotonic()))
        say(bench, "late", "bone")
        assert len(bench.found(search())) == 21
        position = bench.do(searched(bench).rebuild(lambda *at: told.append(at)))
    assert position == 21 and told[-1] == (21, 21)
    assert set(engine.aliases) == {name} and len(engine.index.seen) == 21


def test_what_is_erased_meanwhile_is_gone_from_both(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone secretword")
    say(bench, "b", "bone")
    follow(bench)
    bench.do(searched(bench).follower.rebuild())
    erase(bench, "a", 1)
    assert bench.do(bench.store.scrub())
    assert "secretword" not in words_in(engine)
    follow_until(bench)
    assert set(engine.index.seen) == {"Condition/b"}
