"""Damage, failed commits and full disks: nothing false is read, nothing half is kept."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import StringValue
from fhir_server.store.base import ChangeSet
from fhir_server.store.codec import Damaged
from fhir_server.store.sqlite import schema
from fhir_server.store.sqlite.opening import open_store
from tests.store.building import prepared_change, values


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    async def flip() -> None:
        store = await open_store(tmp_path, "serve")
        change = prepared_change(Key("A", "1"), 1, values(StringValue("n", "x" * 50)))
        await store.apply(ChangeSet((change,)))
        connection = sqlite3.connect(tmp_path / schema.FILE)
        (frame,) = connection.execute("SELECT frame FROM version").fetchone()
        for place in range(6, len(frame)):
            bad = bytearray(frame)
            bad[place] ^= 4
            connection.execute("UPDATE version SET frame = ?", (bytes(bad),))
            connection.commit()
            with pytest.raises(Damaged):
                await store.run(Search((Scan("A", plan.IdIn(("1",))),)))
        connection.close()
        await store.close()

    asyncio.run(flip())


def test_a_set_that_meets_damage_leaves_nothing(tmp_path: Path) -> None:
    async def damage() -> None:
        store = await open_store(tmp_path, "serve")
        await store.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
        connection = sqlite3.connect(tmp_path / schema.FILE)
        connection.execute("UPDATE version SET frame = zeroblob(40)")
        connection.commit()
        connection.close()
        new, old = prepared_change(Key("B", "1"), 1, values()), Key("A", "1")
        with pytest.raises(Damaged):
            await store.apply(ChangeSet((new, prepared_change(old, 2, values()))))
        other = prepared_change(Key("C", "1"), 1, values())
        results = await asyncio.gather(
            store.apply(ChangeSet((prepared_change(old, 2, values()),))),
            store.apply(ChangeSet((other,))),
            return_exceptions=True,
        )
        assert isinstance(results[0], Damaged)
        assert await store.counts() == {"A": 1, "C": 1}
        assert (await store.run(Search((Scan("B"),)))).total == 0
        await store.close()

    asyncio.run(damage())


def test_a_failed_commit_is_not_acknowledged(tmp_path: Path) -> None:
    class Failing:
        def __init__(self, real: sqlite3.Connection) -> None:
            self.real = real

        def execute(self, sql: str, *params: Any) -> Any:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self.real.execute(sql, *params)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    async def fail() -> None:
        store = await open_store(tmp_path, "serve")
        writer: Any = store.writer._writer
        await store.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
        writer._connection = Failing(writer._connection)
        made = [
            store.apply(ChangeSet((prepared_change(Key("A", str(n)), 1, values()),)))
            for n in (2, 3)
        ]
        results = await asyncio.gather(*made, return_exceptions=True)
        assert [type(r) for r in results] == [Unavailable, Unavailable]
        assert (await store.run(Search((Scan("A"),)))).total == 1
        again = prepared_change(Key("A", "2"), 1, values())
        assert (await store.apply(ChangeSet((again,)))).seqs == (2,)
        await store.close()

    asyncio.run(fail())


def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    async def fill() -> None:
        store = await open_store(tmp_path, "serve")
        await store.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
        writer: Any = store.writer._writer
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [
            prepared_change(Key("B", str(n)), 1, values(StringValue("s", str(n) * 99)))
            for n in range(100)
        ]
        with pytest.raises(Unavailable, match="disk is full"):
            await store.apply(ChangeSet(tuple(many)))
        assert (await store.run(Search((Scan("A"),)))).total == 1
        assert await store.counts() == {"A": 1}
        await store.apply(ChangeSet(tuple(many)))
        assert await store.counts() == {"A": 1, "B": 100}
        await store.close()

    asyncio.run(fill())
