"""What only the embedded store promises: durability, one writer, damage found, no stalls."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import StringValue, TokenValue
from fhir_server.store.base import ChangeSet, Guard
from fhir_server.store.codec import unpack
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite import group, schema
from fhir_server.store.sqlite.keys import Keys
from fhir_server.store.sqlite.opening import OpenStore, open_store
from fhir_server.store.sqlite.prepared import from_wire, prepare, to_wire
from fhir_server.store.sqlite.writer import LocalWriter
from tests.store.building import Bench, prepared_change, values

ROOT = Path(__file__).parents[2]


def start(folder: Path, tag: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.worker", str(folder), tag],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(process: subprocess.Popen[str]) -> tuple[set[str], set[str]]:
    """(acknowledged, tried) steps of a process that has ended."""
    assert process.stdout is not None
    lines = [line.split() for line in process.stdout.read().splitlines()]
    steps = [(words[0], "-".join(words[1:])) for words in lines if len(words) == 3]
    ok = {step for word, step in steps if word == "ok"}
    return ok, {step for word, step in steps if word == "try"}


def indexed_as_stored(connection: sqlite3.Connection, reader: Any) -> bool:
    """The index tables hold exactly what the current versions say."""
    keys = Keys(schema.secret(connection))
    wanted: set[tuple[Any, ...]] = set()
    rows = connection.execute(
        "SELECT r.rid, r.type, v.split, v.frame FROM resource r"
        " JOIN version v ON v.seq = r.seq WHERE r.live = 1"
    )
    for rid, type_, split, frame in rows:
        made = keys.rows(type_, unpack(reader.codec.open(frame)[split:]))
        wanted |= {("p", h, s, made.date, rid) for h, s in made.postings}
        wanted |= {("s", h, text, rid) for h, text in made.strings}
        wanted |= {("r", *span, rid) for span in made.spans}
    found = {("p", *row) for row in connection.execute("SELECT h, s, date, rid FROM posting")}
    found |= {("s", *row) for row in connection.execute("SELECT h, text, rid FROM string")}
    found |= {("r", *row) for row in connection.execute("SELECT h, s, lo, hi, rid FROM span")}
    return wanted == found


async def check(folder: Path, ok: dict[str, set[str]], tried: dict[str, set[str]]) -> None:
    """ok is stored, what is stored was tried, sets are whole, versions have no gaps."""
    store = await open_store(folder, "serve")
    try:
        pairs: set[str] = set()
        versions: dict[Key, list[int]] = {}
        async for stored in store.changes(0):
            versions.setdefault(stored.key, []).append(stored.version)
            if stored.key.type == "Pair":
                pairs.add(stored.key.id)
        steps = {name[:-2] for name in pairs}
        assert pairs == {f"{step}-{half}" for step in steps for half in "ab"}
        for tag in ok:
            mine = {step.removeprefix(tag + "-") for step in steps if step.startswith(tag + "-")}
            assert ok[tag] <= mine <= tried[tag]
        for key, found in versions.items():
            assert found == list(range(1, len(found) + 1)), key
        connection = sqlite3.connect(folder / schema.FILE)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert indexed_as_stored(connection, store._reader)
        counted = dict(connection.execute("SELECT type, count(*) FROM resource GROUP BY type"))
        assert await store.counts() == counted
        connection.close()
    finally:
        await store.close()


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(1)
    ok: dict[str, set[str]] = {}
    tried: dict[str, set[str]] = {}
    for round_ in range(6):
        tag = f"k{round_}"
        process = start(tmp_path, tag)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("open local")
        time.sleep(chance.uniform(0.02, 0.3))
        process.kill()
        process.wait()
        ok[tag], tried[tag] = acknowledged(process)
    assert sum(map(len, ok.values())) > 20
    asyncio.run(check(tmp_path, ok, tried))


def test_another_worker_takes_over_when_the_writer_is_killed(tmp_path: Path) -> None:
    first = start(tmp_path, "first")
    assert first.stdout is not None and first.stdout.readline() == "open local\n"

    async def second() -> None:
        store = await open_store(tmp_path, "worker")
        assert not store.writer.local
        for n in range(20):
            await store.apply(ChangeSet((prepared_change(Key("Two", str(n)), 1, values()),)))
        first.kill()
        first.wait()
        done = 20
        while done < 40:
            try:
                change = prepared_change(Key("Two", str(done)), 1, values())
                await store.apply(ChangeSet((change,)))
                done += 1
            except Unavailable:
                await asyncio.sleep(0.01)
        assert store.writer.local
        assert (await store.counts())["Two"] == 40
        await store.close()

    asyncio.run(second())
    ok, tried = acknowledged(first)
    asyncio.run(check(tmp_path, {"first": ok}, {"first": tried}))


def test_a_second_server_is_refused_but_a_command_is_not(tmp_path: Path) -> None:
    async def twice() -> None:
        server = await open_store(tmp_path, "serve")
        with pytest.raises(Unavailable, match="another server"):
            await open_store(tmp_path, "serve")
        tool = await open_store(tmp_path, "command")
        assert server.writer.local and not tool.writer.local
        await tool.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
        assert await tool.ledger.insert_unique("user", "u", {"x": [1, None]})
        assert not await tool.ledger.insert_unique("user", "u", {})
        row = await server.ledger.get("user", "u")
        assert row is not None and row.value == {"x": [1, None]}
        assert (await server.run(Search((Scan("A"),)))).total == 1
        await server.close()
        await asyncio.sleep(0.05)
        await tool.apply(ChangeSet((prepared_change(Key("A", "2"), 1, values()),)))
        assert tool.writer.local
        await tool.close()

    asyncio.run(twice())


@pytest.mark.parametrize("version", [99, schema.UNRELEASED])
def test_an_unknown_schema_is_refused(tmp_path: Path, version: int) -> None:
    async def opened() -> OpenStore:
        return await open_store(tmp_path, "serve")

    asyncio.run(_closed(opened))
    connection = sqlite3.connect(tmp_path / schema.FILE)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(Unavailable, match=f"schema version {version}"):
        asyncio.run(opened())


async def _closed(opened: Any) -> None:
    await (await opened()).close()


def test_settings_of_the_database(tmp_path: Path) -> None:
    connection = schema.connect(tmp_path / schema.FILE)
    asked = ("journal_mode", "synchronous", "page_size")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    assert found == ["wal", 2, 4096]
    connection.close()


def test_a_closed_store_is_one_file(tmp_path: Path) -> None:
    """Who copies it after the server has stopped has everything."""

    async def fill() -> None:
        store = await open_store(tmp_path, "serve")
        await store.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
        await store.close()

    asyncio.run(fill())
    assert not list(tmp_path.glob("*-wal"))
    connection = sqlite3.connect(tmp_path / schema.FILE)
    assert connection.execute("SELECT count(*) FROM version").fetchone() == (1,)
    connection.close()


def test_a_large_set_is_written_in_slices_and_stays_whole(tmp_path: Path) -> None:
    """Between two turns of the loop at most one slice of statements runs."""
    turns: list[int] = []

    async def watch(stop: asyncio.Event) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            turns.append(turn)
            await asyncio.sleep(0)

    async def load() -> None:
        store = await open_store(tmp_path, "serve")
        index = values(*(TokenValue("c", "", str(n)) for n in range(5)))
        many = tuple(prepared_change(Key("A", str(n)), 1, index) for n in range(2000))
        stop = asyncio.Event()
        watcher = asyncio.create_task(watch(stop))
        large = asyncio.create_task(store.apply(ChangeSet(many)))
        seen = set()
        while not large.done():
            seen.add((await store.run(Search((Scan("A"),), count=0, total="exact"))).total)
            await asyncio.sleep(0)
        stop.set()
        await watcher
        assert seen <= {0, 2000}
        rows = 2000 * (2 + 6)
        slices = 2000 // 64 + 2 * (2000 // group.CHECKED) + rows // group.WRITTEN
        assert len(turns) >= slices
        await store.close()

    asyncio.run(load())


def test_prepared_sets_travel_unchanged(tmp_path: Path) -> None:
    async def travel() -> None:
        store = await open_store(tmp_path, "serve")
        inner = plan.All((plan.IdIn(("1", "2")), plan.TokenIs("c", None, "x")))
        scan = Scan("A", plan.Any((plan.Not(inner), plan.Chain("s", (Scan("B"),)))))
        sent = await prepare(
            ChangeSet(
                (prepared_change(Key("A", "1"), 1, values(StringValue("n", "ї"))),),
                (Guard(scan, ("1",)),),
                (LedgerWrite("k", "1", {"a": [1.5, None]}, 0, 12.5, b"{}"),),
            ),
            store._reader.keys,
            store._reader.codec,
        )
        assert from_wire(to_wire(sent)) == sent
        await store.close()

    asyncio.run(travel())


def test_a_long_search_moves_to_a_thread(backend: Bench) -> None:
    backend.apply(
        *(backend.change(f"A/{n}", values(StringValue("s", f"t{n}"))) for n in range(600))
    )
    where = plan.StringIs("s", "99", "contains")
    with mock.patch("fhir_server.store.sqlite.store.INLINE", 100):
        page = backend.page(Search((Scan("A", where),), total="exact"))
    assert page.total == 6 and len(page.matches) == 6


def test_stored_is_what_was_written(backend: Bench) -> None:
    body = b'{"resourceType":"A","id":"1","x":1.50}'
    backend.apply(backend.change("A/1", body=body))
    (found,) = backend.page(Search((Scan("A", plan.IdIn(("1",))),))).matches
    assert isinstance(found, Stored) and found.body == body


def test_clients_that_write_again_and_again_share_commits(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        store = await open_store(tmp_path, "serve")
        writer = store.writer._writer
        assert isinstance(writer, LocalWriter)
        groups: list[int] = []
        take = writer._take

        def counted() -> Any:
            taken = take()
            groups.append(len(taken))
            return taken

        async def client(number: int, tag: str) -> None:
            for n in range(6):
                for _ in range(number):
                    await asyncio.sleep(0)
                change = prepared_change(Key("T", f"{tag}{number}-{n}"), 1, values())
                await store.apply(ChangeSet((change,)))

        with mock.patch.object(writer, "_take", counted):
            await asyncio.gather(*(client(n, "together") for n in range(8)))
            together = len(groups)
            await client(0, "alone")
        await store.close()
        assert groups[-6:] == [1] * 6
        return groups[:together]

    groups = asyncio.run(scenario())
    assert sum(groups) == 48
    assert len(groups) <= 24, groups
