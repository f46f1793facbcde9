"""A MongoDB that was restored from an older copy: what was erased since stays erased."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from fhir_server.config import Settings
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.values import TokenValue
from fhir_server.store.base import ChangeSet
from fhir_server.store.erase_log import Entry, EraseLog
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.mongo.opening import database_name, open_kept, open_store
from fhir_server.store.opening import open_store as open_settings
from tests.mongodb import new_url
from tests.store.building import prepared_change, values

LATER = "2026-01-02T03:04:05Z"


async def older(url: str) -> None:
    """Patient/gone in two versions, Patient/old in three, Patient/stays; one has a blob."""
    store = await open_store(url)
    index = values(TokenValue("code", "s", "canary"))
    for name, versions in (("gone", 2), ("old", 3), ("stays", 1)):
        for version in range(1, versions + 1):
            change = prepared_change(Key("Patient", name), version, index)
            await store.apply(ChangeSet((change,)))
    named = LedgerWrite("blob", "Patient/gone/2", {"sha256": "aa"})
    used = LedgerWrite("blob-use", "aa/Patient/gone/2", {})
    await store.apply(ChangeSet(ledger=(named, used)))
    await store.close()


async def copied(url: str, to: str) -> None:
    """As ``mongorestore`` leaves a database."""
    client: AsyncMongoClient[Any] = AsyncMongoClient(url)
    for name in await client[database_name(url)].list_collection_names():
        rows = await client[database_name(url)][name].find().to_list()
        if rows:
            await client[database_name(to)][name].insert_many(rows)
    await client.close()


def test_an_older_copy_is_erased_before_it_is_used() -> None:
    log = [
        Entry(LATER, "Patient", "gone", "u"),
        Entry(LATER, "Patient", "old", "u", versions=[1, 2, 9]),
        Entry("1970-01-01T00:00:00Z", "Patient", "stays", "u"),
        Entry(LATER, "Patient", "never", "u"),
    ]

    async def scenario() -> None:
        url, restored = new_url(), new_url()
        await older(url)
        await copied(url, restored)
        for _ in range(2):
            store = await open_kept(restored, log)
            keys = [Key("Patient", name) for name in ("gone", "old", "stays")]
            there = await store.current(keys)
            assert [s and s.version for s in there] == [None, 3, 1]
            assert await store.version(keys[0], 1) is None
            assert await store.version(keys[1], 2) is None
            assert await store.counts() == {"Patient": 2}
            assert len(await store.ledger.scan("erased")) == len(log)
            assert await store.ledger.scan("blob") == await store.ledger.scan("blob-use") == []
            await store.close()
        untouched = await open_store(url)
        assert await untouched.counts() == {"Patient": 3}
        await untouched.close()

    asyncio.run(scenario())


def test_what_was_written_after_the_erase_stays() -> None:
    async def scenario() -> None:
        url = new_url()
        store = await open_store(url)
        change = prepared_change(Key("Patient", "new"), 1, values())
        await store.apply(ChangeSet((replace(change, updated=2 * 10**15),)))
        await store.close()
        store = await open_kept(url, [Entry(LATER, "Patient", "new", "u")])
        assert await store.counts() == {"Patient": 1}
        await store.close()

    asyncio.run(scenario())


def test_several_servers_that_start_at_once() -> None:
    async def scenario() -> None:
        url = new_url()
        await older(url)
        log = [Entry(LATER, "Patient", name, "u") for name in ("gone", "old", "stays")]
        stores = await asyncio.gather(*(open_kept(url, log) for _ in range(3)))
        for store in stores:
            assert await store.counts() == {}
            assert len(await store.ledger.scan("erased")) == 3
            await store.close()

    asyncio.run(scenario())


def test_the_log_of_the_settings(tmp_path: Path) -> None:
    async def scenario() -> None:
        url = new_url()
        await older(url)
        settings = Settings(store=url, data=tmp_path / "data")
        EraseLog(settings.erased).append([Entry(LATER, "Patient", "gone", "u")])
        store = await open_settings(settings, "serve")
        assert await store.counts() == {"Patient": 2}
        await store.close()
        settings.erased.write_bytes(b"[]\n")
        with pytest.raises(Unavailable, match="line 1"):
            await open_settings(settings, "serve")

    asyncio.run(scenario())
