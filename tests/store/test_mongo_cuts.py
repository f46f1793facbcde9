"""The connection to MongoDB ends at any command of a write: it is done once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from unittest import mock
from urllib.parse import urlsplit

import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.values import TokenValue
from fhir_server.store.base import ChangeSet
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.mongo import writer
from fhir_server.store.mongo.opening import open_store
from fhir_server.store.mongo.store import MongoStore
from tests.mongo_proxy import Cut, Proxy
from tests.mongodb import new_url
from tests.store.building import prepared_change, values

KEYS = (Key("A", "1"), Key("B", "1"))
ROW = LedgerWrite("audit", "1", {"n": 1})
COMMANDS = [b"findAndModify", b"find", b"update", b"commitTransaction"]


def pair(version: int) -> ChangeSet:
    made = (prepared_change(k, version, values(TokenValue("c", "", str(version)))) for k in KEYS)
    return ChangeSet(tuple(made), ledger=(ROW,))


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[MongoStore, Proxy]]:
    parts = urlsplit(new_url())
    assert parts.hostname is not None and parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    port = await proxy.start()
    store = await open_store(f"mongodb://127.0.0.1:{port}{parts.path}?directConnection=true")
    try:
        yield store, proxy
    finally:
        proxy.cut = None
        await store.close()
        proxy.stop()


async def stored(store: MongoStore) -> list[tuple[Key, int]]:
    return [(s.key, s.version) async for s in store.changes(0)]


@pytest.mark.parametrize("command", COMMANDS, ids=bytes.decode)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_write_is_done_once(command: bytes, when: Literal["before", "after"]) -> None:
    async def scenario() -> None:
        async with proxied() as (store, proxy):
            await store.apply(pair(1))
            proxy.cut = Cut(command, when)
            done = await store.apply(pair(2))
            assert proxy.struck == 1 and len(done.seqs) == 2
            assert await stored(store) == [(key, v) for v in (1, 2) for key in KEYS]
            assert await store.counts() == {"A": 1, "B": 1}
            row = await store.ledger.get("audit", "1")
            assert row is not None and row.revision == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("command", COMMANDS, ids=bytes.decode)
def test_a_database_that_stays_away_answers_503(command: bytes) -> None:
    """And what it holds afterwards is whole, whichever it is."""

    async def scenario() -> None:
        async with proxied() as (store, proxy):
            await store.apply(pair(1))
            with mock.patch.object(writer, "PATIENCE", 1.0):
                proxy.cut = Cut(command, "after", times=1000)
                with pytest.raises(Unavailable) as problem:
                    await store.apply(pair(2))
            assert problem.value.status == 503 and "Retry-After" in problem.value.headers
            proxy.cut = None
            after = await stored(store)
            first = [(key, 1) for key in KEYS]
            committed = [*first, *((key, 2) for key in KEYS)]
            assert after in ((committed,) if command == b"commitTransaction" else (first,))
            await store.apply(pair(2 if after == first else 3))

    asyncio.run(scenario())


@pytest.mark.parametrize("when", ["before", "after"])
def test_cut_reads_and_single_rows(when: Literal["before", "after"]) -> None:
    async def scenario() -> None:
        async with proxied() as (store, proxy):
            await store.apply(pair(1))
            proxy.cut = Cut(b"find", when)
            (found,) = await store.current([KEYS[0]])
            assert found is not None and proxy.struck == 1
            proxy.cut = Cut(b"insert", when)
            assert await store.ledger.insert_unique("code", "1", {})
            proxy.cut = Cut(b"update", when)
            assert await store.ledger.cas("code", "1", {"n": 2}, 1)
            proxy.cut = Cut(b"delete", when)
            assert await store.ledger.cas("code", "1", None, 2)
            assert proxy.struck == 4

    asyncio.run(scenario())
