"""The files of SQLite hold no byte of what was erased."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_server.formats.json import stored_form
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import TokenValue
from fhir_server.store.base import Change, ChangeSet, EraseSet, Erasure, Stale
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite import erasing, schema
from fhir_server.store.sqlite import store as sqlite_store
from fhir_server.store.sqlite import writer as writer_module
from fhir_server.store.sqlite.erasing import cut_log, scrub
from fhir_server.store.sqlite.opening import open_store
from fhir_server.store.sqlite.schema import FILE
from fhir_server.store.sqlite.store import Reader
from fhir_server.store.sqlite.writer import LocalWriter
from tests.faults.points import ERASING
from tests.store.building import Bench, key, values
from tests.store.erasing import erased, named
from tests.store.test_sqlite import ROOT, indexed_as_stored


def traces(folder: Path) -> Iterator[bytes]:
    """What the database holds of Patient/p, as it lies in the file."""
    with sqlite3.connect(folder / FILE) as connection:
        (rid,) = connection.execute("SELECT rid FROM resource WHERE id = 'p'").fetchone()
        for (frame,) in connection.execute("SELECT frame FROM version WHERE rid = ?", (rid,)):
            if frame:
                yield frame[len(frame) // 2 :][:24]
    connection.close()
    yield b"canary"


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_files_hold_no_byte_of_it(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        store = runner.run(open_store(tmp_path, "serve"))
        bench = Bench(store, runner)
        for number in range(400):
            bench.put(f"Patient/n{number}", *named(f"Name{number}"), patients=(f"n{number}",))
            if number % 8 == 0:
                name = f"Canary{number}"
                made: Change = bench.change("Patient/p", values(*named(name, f"{name} Canary")))
                bench.apply(made)
        looked = list(traces(tmp_path))
        assert len(looked) == 51 and all(piece in files(tmp_path) for piece in looked)
        erased(bench, ("Patient/p", 50, None))
        assert runner.run(store.scrub())
        assert not any(piece in files(tmp_path) for piece in looked)
        assert bench.do(store.counts()) == {"Patient": 400}
        runner.run(store.close())
    assert not any(piece in files(tmp_path) for piece in looked)


def test_a_large_database_is_rewritten_at_a_quiet_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes are not held up while they come; after a day they are."""
    monkeypatch.setattr(erasing, "QUICKLY", 0)
    monkeypatch.setattr(sqlite_store, "SCRUB_PAUSE", 0.0)
    with asyncio.Runner() as runner:
        store = runner.run(open_store(tmp_path, "serve"))
        bench = Bench(store, runner)
        writer = store.writer._writer
        assert isinstance(writer, LocalWriter)
        bench.put("Patient/p", *named("Canary"), patients=("p",))
        erased(bench, ("Patient/p", 1, None))
        assert not runner.run(store.scrub())
        writer._changed -= writer_module.QUIET_SECONDS
        assert runner.run(store.scrub())
        bench.put("Patient/q", *named("Other"), patients=("q",))
        assert not runner.run(store.scrub())
        assert writer._put_off is not None
        writer._put_off -= writer_module.PUT_OFF_SECONDS
        assert runner.run(store.scrub())
        monkeypatch.setattr(erasing, "QUICKLY", 1 << 30)
        bench.put("Patient/r", *named("Other"), patients=("r",))
        assert runner.run(store.scrub())
        runner.run(store.close())


def test_a_rewrite_leaves_nothing_in_unused_parts_of_pages(tmp_path: Path) -> None:
    """SQLite overwrites what it deletes, but not what it has moved to another page before."""
    connection = schema.connect(tmp_path / FILE)
    schema.migrate(connection)
    connection.execute("PRAGMA synchronous = OFF")
    chance, planted = random.Random(2), []
    for number in range(3000):
        connection.execute("BEGIN")
        for _ in range(6):
            name = "canary" if chance.random() < 0.1 else "plain"
            row = (chance.randrange(20), f"{name}{chance.randrange(10**6):06}{number}", number)
            connection.execute("INSERT OR IGNORE INTO string VALUES (?, ?, ?)", row)
            planted += [row] if name == "canary" else []
        connection.execute("COMMIT")
    connection.executemany("DELETE FROM string WHERE h = ? AND text = ? AND rid = ?", planted)
    assert cut_log(connection)
    moved = files(tmp_path).count(b"canary")
    assert scrub(connection) and b"canary" not in files(tmp_path)
    connection.close()
    assert moved < len(planted) / 100


def test_a_damaged_resource_can_be_erased(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        store = runner.run(open_store(tmp_path, "serve"))
        bench = Bench(store, runner)
        bench.put("Patient/p", *named("Canary"), patients=("p",))
        runner.run(store.close())
        with sqlite3.connect(tmp_path / FILE) as connection:
            connection.execute("UPDATE version SET frame = x'28b52ffd00'")
        connection.close()
        store = runner.run(open_store(tmp_path, "serve"))
        bench = Bench(store, runner)
        assert erased(bench, ("Patient/p", 1, None)) == (1,)
        assert bench.found(Search((Scan("Patient", plan.StringIs("name", "canary")),))) == []
        runner.run(store.close())
    with sqlite3.connect(tmp_path / FILE) as connection:
        for table in ("posting", "string", "span", "version", "resource"):
            counted = connection.execute("".join(("SELECT count(*) FROM ", table))).fetchone()
            assert counted == (0,), table
    connection.close()


def test_a_worker_erases_by_the_writer_of_another(tmp_path: Path) -> None:
    async def run() -> None:
        writing = await open_store(tmp_path, "worker")
        other = await open_store(tmp_path, "worker")
        assert writing.writer.local and not other.writer.local
        first = Change(key("Patient/p"), 1, 1, b"{}", values(*named("Canary")), "PUT", 0)
        second = replace(first, version=2, expect=1, updated=2)
        for change in (first, second):
            await other.apply(ChangeSet((change,)))
        stale = EraseSet((Erasure(key("Patient/p"), 1),))
        with pytest.raises(Stale) as caught:
            await other.erase(stale)
        assert caught.value.keys == (key("Patient/p"),)
        rows = (LedgerWrite("erased", "1", {"id": "p"}),)
        part = await other.erase(EraseSet((Erasure(key("Patient/p"), 2, (1,)),)))
        whole = await other.erase(EraseSet((Erasure(key("Patient/p"), 2),), rows))
        assert (part.versions, whole.versions) == ((1,), (1,)) and await other.scrub()
        for store in (writing, other):
            assert await store.current([key("Patient/p")]) == [None]
            assert await store.ledger.get("erased", "1") is not None
        assert b"canary" not in files(tmp_path)
        await other.close()
        await writing.close()

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("point", list(ERASING))
def test_a_kill_in_the_middle_leaves_all_or_nothing(tmp_path: Path, point: str) -> None:
    async def planted() -> None:
        store = await open_store(tmp_path, "serve")
        for version, family in enumerate(("Canary", "Canary B", "Canary C"), 1):
            for name in ("Patient/p", "Patient/q"):
                found = values(*named(family), TokenValue("identifier", "s", name))
                empty, when = {"resourceType": "Patient"}, "2026-01-01T00:00:00Z"
                body = stored_form(empty, name[-1], str(version), when)
                change = Change(key(name), version, version, body, found, "PUT", version - 1)
                await store.apply(ChangeSet((change,)))
        await store.close()

    async def looked() -> bool:
        store = await open_store(tmp_path, "serve")
        current = await store.current([key("Patient/p"), key("Patient/q")])
        there = current != [None, None]
        assert there == (None not in current)
        left = len([s async for s in store.changes(0)])
        assert left == (6 if there else 0)
        assert await store.counts() == ({"Patient": 2} if there else {})
        assert (await store.ledger.get("erased", "1") is None) == there
        assert await store.scrub()
        assert there or b"canary" not in files(tmp_path)
        await store.close()
        return there

    asyncio.run(planted())
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.eraser", str(tmp_path), point],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert indexed_as_stored(connection, Reader(tmp_path / FILE))
    connection.close()
    there = asyncio.run(looked())
    assert not there or "erased" not in done.stdout
    assert there == (point not in COMMITTED)


COMMITTED = {"after-erase-commit", "before-rewrite", "after-rewrite", "before-log-cut"}


def test_numbers_are_not_given_again_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        store = await open_store(tmp_path, "serve")
        change = Change(key("Patient/p"), 1, 1, b"{}", values(), "PUT", 0)
        (first,) = (await store.apply(ChangeSet((change,)))).seqs
        await store.erase(EraseSet((Erasure(key("Patient/p"), 1),)))
        await store.close()
        store = await open_store(tmp_path, "serve")
        assert await store.position() == first
        (second,) = (await store.apply(ChangeSet((change,)))).seqs
        assert second == first + 1
        await store.close()

    asyncio.run(run())
