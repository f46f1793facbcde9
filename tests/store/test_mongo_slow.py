"""What takes a MongoDB too long: a search of who knows how much asks for too much; a look-up, a
page of what one index bounds and a write may be tried again. And a set that cannot be written
holds up none that is written with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from pymongo.errors import ExecutionTimeout

from fhir_server.model.problem import BadRequest, Unavailable
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import History, Scan, Search
from fhir_server.search.values import TokenValue
from fhir_server.store.base import ChangeSet, Committed, Guard
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.mongo import view
from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.opening import open_store
from fhir_server.store.mongo.store import MongoStore
from fhir_server.store.mongo.wire import Line
from tests.mongodb import new_url
from tests.store.building import prepared_change, values

CODED = plan.TokenIs("c", "", "x")
OTHER = plan.Not(plan.TokenIs("c", "", "y"))
COSTLY = (
    Search((Scan("A", OTHER),)),
    Search((Scan("A", plan.All((CODED, OTHER))),)),
    Search((Scan("A", CODED),), count=0, total="exact"),
)
"""Nobody knows how many there are of what these look at."""
CHEAP = (
    Search((Scan("A"),)),
    Search((Scan("A", CODED),)),
    Search((Scan("A", plan.IdIn(("1",))),)),
    Search((Scan("A", plan.All((plan.IdIn(("1", "2")), OTHER))),)),
)


def change_set(*ids: str, guard: Guard | None = None) -> ChangeSet:
    made = tuple(prepared_change(Key("A", i), 1, values(TokenValue("c", "", "x"))) for i in ids)
    return ChangeSet(made, guards=() if guard is None else (guard,))


@contextmanager
def slow(*commands: str) -> Iterator[None]:
    """These take longer than maxTimeMS allows: code 50."""
    real = Line.send

    async def send(self: Line, command: Document, *parts: Any) -> Document:
        if next(iter(command)) in commands:
            raise ExecutionTimeout("operation exceeded time limit", 50, {})
        return await real(self, command, *parts)

    with mock.patch.object(Line, "send", send):
        yield


def test_only_a_search_of_much_asks_for_too_much() -> None:
    async def scenario() -> None:
        store = await open_store(new_url())
        await store.apply(change_set("1"))
        with slow("find", "aggregate"):
            for search in COSTLY:
                with pytest.raises(BadRequest) as costly:
                    await store.run(search)
                assert costly.value.issues[0].code == "too-costly"
            await _unavailable(store)
        assert len((await store.run(Search((Scan("A"),)))).matches) == 1
        assert await store.position() == 1
        await store.close()

    asyncio.run(scenario())


async def _unavailable(store: MongoStore) -> None:
    works = (
        *map(store.run, CHEAP),
        store.versions(History("A")),
        store.current([Key("A", "1")]),
        store.current([Key("A", "1"), Key("A", "2")]),
        store.version(Key("A", "1"), 1),
        store.position(),
        store.counts(),
        store.ledger.get("kind", "key"),
        store.apply(change_set("2")),
        store.apply(ChangeSet((), ledger=(LedgerWrite("kind", "key", {}),))),
    )
    for work in works:
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.headers["Retry-After"]


@pytest.mark.parametrize("failure", [BadRequest("too much"), LookupError("a fault of ours")])
def test_who_is_written_with_a_set_that_fails_is_written(failure: Exception) -> None:
    """The condition of one cannot be judged; all wait for the same transaction."""

    async def holds(*_: Any) -> bool:
        raise failure

    async def scenario() -> list[Committed | BaseException]:
        store = await open_store(new_url())
        guard = Guard(Scan("A", CODED), ())
        sets = [change_set(str(n), guard=guard if n == 3 else None) for n in range(8)]
        with mock.patch("fhir_server.store.mongo.group.guard_holds", holds):
            first = asyncio.create_task(store.apply(change_set("first")))
            await asyncio.sleep(0)
            async with asyncio.timeout(60):
                done = await asyncio.gather(*map(store.apply, sets), return_exceptions=True)
                await first
        assert sum((await store.counts()).values()) == 8
        with suppress_ours():
            await store.close()
        return done

    done = asyncio.run(scenario())
    assert done.pop(3) is failure
    assert all(isinstance(one, Committed) for one in done)


@contextmanager
def suppress_ours() -> Iterator[None]:
    """A fault of ours is also raised where it happened."""
    try:
        yield
    except LookupError:
        return


def test_a_condition_that_looks_at_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "LOOKED", 2)

    async def scenario() -> None:
        store = await open_store(new_url())
        await store.apply(change_set(*map(str, range(5))))
        guard = Guard(Scan("A", plan.TextHas("_content", ("nothing",))), ())
        with pytest.raises(BadRequest):
            await store.apply(change_set("6", guard=guard))
        await store.apply(change_set("6"))
        await store.close()

    asyncio.run(scenario())
