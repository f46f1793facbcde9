"""One contract for every store: what is erased leaves nothing behind."""

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
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import History, Scan, Search
from fhir_server.search.values import StringValue, TokenValue
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
from tests.store.building import Bench, key, names, to, values, walk
from tests.store.test_apply import feed
from tests.store.test_sqlite import ROOT, indexed_as_stored


def erased(
    bench: Bench, *erasures: tuple[str, int, tuple[int, ...] | None], **other: object
) -> tuple[int, ...]:
    made = tuple(Erasure(key(name), expect, versions) for name, expect, versions in erasures)
    return bench.do(bench.store.erase(EraseSet(made, **other))).versions  # type: ignore[arg-type]


def history(bench: Bench, *where: str, **more: object) -> list[tuple[str, int]]:
    found = bench.do(bench.store.versions(History(*where, **more)))  # type: ignore[arg-type]
    return [(str(s.key), s.version) for s in found.entries]


def named(*found: str) -> list[StringValue]:
    return [StringValue("name", name) for name in found]


def test_a_whole_resource_leaves_nothing(backend: Bench) -> None:
    backend.put("Patient/p", *named("Old"), patients=("p",))
    backend.put("Patient/p", *named("New"), TokenValue("identifier", "s", "1"), patients=("p",))
    backend.put("Patient/q", *named("New"), patients=("q",))
    backend.put("Observation/o", to("subject", "Patient/p"), patients=("p",))
    assert erased(backend, ("Patient/p", 2, None)) == (2,)
    assert backend.do(backend.store.current([key("Patient/p")])) == [None]
    for version in (1, 2):
        assert backend.do(backend.store.version(key("Patient/p"), version)) is None
    assert history(backend, "Patient", "p") == []
    assert history(backend) == [("Observation/o", 1), ("Patient/q", 1)]
    assert names(feed(backend)) == ["Patient/q", "Observation/o"]
    assert backend.do(backend.store.counts()) == {"Patient": 1, "Observation": 1}
    for where in (
        plan.TRUE,
        plan.StringIs("name", "new"),
        plan.Not(plan.TokenIs("identifier", None, "1")),
        plan.InPatient(("p", "q")),
        plan.IdIn(("p", "q")),
    ):
        assert backend.found(Search((Scan("Patient", where),))) == ["Patient/q"], where
    for where in (plan.TokenIs("identifier", "s", "1"), plan.StringIs("name", "old")):
        assert backend.found(Search((Scan("Patient", where),))) == []
    chain = plan.Chain("subject", (Scan("Patient"),))
    assert backend.found(Search((Scan("Observation", chain),))) == []
    assert backend.found(
        Search((Scan("Observation", plan.ReferenceIs("subject", "Patient", "p")),))
    ) == ["Observation/o"]
    counted = backend.page(Search((Scan("Patient"),), count=0, total="exact"))
    assert counted.total == 1


def test_a_deleted_resource(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.delete("Patient/p")
    assert erased(backend, ("Patient/p", 2, None)) == (2,)
    assert history(backend) == [] and backend.do(backend.store.counts()) == {}
    assert backend.do(backend.store.current([key("Patient/p")])) == [None]


def test_an_erased_id_begins_anew_and_positions_go_on(backend: Bench) -> None:
    backend.put("Patient/q")
    last = backend.put("Patient/p", *named("Canary"))
    erased(backend, ("Patient/p", 1, None))
    assert backend.do(backend.store.position()) == last
    assert names(feed(backend, last)) == []
    seq = backend.apply(backend.change("Patient/p", values(*named("Other")), expect=0))
    assert seq == (last + 1,)
    (now,) = backend.do(backend.store.current([key("Patient/p")]))
    assert now is not None and now.version == 1
    assert history(backend, "Patient", "p") == [("Patient/p", 1)]
    assert backend.found(Search((Scan("Patient", plan.StringIs("name", "canary")),))) == []
    assert backend.found(Search((Scan("Patient"),))) == ["Patient/p", "Patient/q"]


def test_old_versions(backend: Bench) -> None:
    times = []
    for _ in range(4):
        backend.put("Patient/p", *named("Same"))
        (now,) = backend.do(backend.store.current([key("Patient/p")]))
        assert now is not None
        times.append(now.updated)
    assert erased(backend, ("Patient/p", 4, (1, 3, 9))) == (2,)
    assert history(backend, "Patient", "p") == [("Patient/p", 4), ("Patient/p", 2)]
    page = backend.do(backend.store.versions(History("Patient", "p")))
    assert page.total == 2
    assert backend.do(backend.store.version(key("Patient/p"), 3)) is None
    assert backend.found(Search((Scan("Patient", plan.StringIs("name", "same")),))) == ["Patient/p"]
    # A version that stays counts as current until the next one that stays.
    third = (times[2], times[2] + 1)
    assert history(backend, "Patient", "p", at=third) == [("Patient/p", 2)]
    assert history(backend, "Patient", at=third) == [("Patient/p", 2)]
    assert history(backend, "Patient", "p", at=(times[0], times[0] + 1)) == []
    assert erased(backend, ("Patient/p", 4, None)) == (2,)
    assert history(backend) == []


def test_the_versions_before_a_deletion(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.put("Patient/p")
    backend.delete("Patient/p")
    assert erased(backend, ("Patient/p", 3, (1, 2))) == (2,)
    (now,) = backend.do(backend.store.current([key("Patient/p")]))
    assert now is not None and now.deleted and now.version == 3
    assert history(backend) == [("Patient/p", 3)]


def test_what_moved_is_stale_and_nothing_goes(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.put("Patient/q")
    backend.put("Patient/q")
    with pytest.raises(Stale) as stale:
        erased(backend, ("Patient/p", 1, None), ("Patient/q", 1, None), ("Patient/r", 1, None))
    assert stale.value.keys == (key("Patient/q"), key("Patient/r"))
    assert len(feed(backend)) == 3
    assert erased(backend, ("Patient/r", 0, None), ("Patient/p", 1, None)) == (0, 1)
    assert names(feed(backend)) == ["Patient/q", "Patient/q"]
    with pytest.raises(ValueError, match="current"):
        Erasure(key("Patient/q"), 2, (2,))


def test_the_ledger_is_part_of_it(backend: Bench) -> None:
    backend.put("Patient/p")
    ledger = backend.store.ledger
    backend.do(ledger.insert_unique("blob", "Patient/p/1", {"sha256": "x"}))
    refused = (LedgerWrite("blob", "Patient/p/1", None, expect=7),)
    with pytest.raises(Stale):
        erased(backend, ("Patient/p", 1, None), ledger=refused)
    assert len(feed(backend)) == 1
    rows = (LedgerWrite("blob", "Patient/p/1", None), LedgerWrite("erased", "1", {"id": "p"}))
    erased(backend, ("Patient/p", 1, None), ledger=rows)
    assert backend.do(ledger.get("blob", "Patient/p/1")) is None
    found = backend.do(ledger.get("erased", "1"))
    assert found is not None and found.value == {"id": "p"}


def test_pages_and_runs_as_of_a_point_go_on(backend: Bench) -> None:
    for number in range(12):
        backend.put(f"Patient/p{number}", date=number % 3)
    whole = Search((Scan("Patient"),), count=2, total="none", as_of=None)
    everybody, _ = walk(backend, whole)
    first = backend.page(whole)
    at = backend.do(backend.store.position())
    frozen = Search((Scan("Patient"),), count=5, total="none", as_of=at)
    before = backend.page(frozen)
    backend.put("Patient/p0")
    backend.delete("Patient/p1")
    gone = {"Patient/p1", "Patient/p7", str(first.matches[-1].key)}
    for name in gone:
        (now,) = backend.do(backend.store.current([key(name)]))
        assert now is not None
        erased(backend, (name, now.version, None))
    rest, _ = walk(backend, Search((Scan("Patient"),), count=2, after=first.next, total="none"))
    seen = [*names(first.matches), *rest]
    assert len(seen) == len(set(seen)) and set(everybody) - set(seen) <= gone
    after, _ = walk(
        backend, Search((Scan("Patient"),), count=5, after=before.next, total="none", as_of=at)
    )
    assert set(names(before.matches)) | set(after) | gone == set(everybody)
    paged = backend.do(backend.store.versions(History("Patient", count=4)))
    more = backend.do(backend.store.versions(History("Patient", count=50, before=paged.next)))
    assert [s.seq for s in (*paged.entries, *more.entries)] == sorted(
        (s.seq for s in feed(backend)), reverse=True
    )


def test_where_a_patient_was_formerly(backend: Bench) -> None:
    backend.put("Observation/moved", patients=("a",))
    backend.put("Observation/moved", patients=("b",))
    backend.put("Observation/gone", patients=("a",))
    backend.delete("Observation/gone")
    backend.put("Observation/still", patients=("a",))
    backend.put("Observation/still", patients=("a",))
    backend.put("Observation/ab", *named("a"), patients=("ab",))
    backend.put("Observation/ab", patients=("ab",))
    assert backend.do(backend.store.formerly("a")) == {
        Key("Observation", "moved"): (1,),
        Key("Observation", "gone"): (1,),
        Key("Observation", "still"): (1,),
    }
    assert backend.do(backend.store.formerly("nobody")) == {}


def test_scrub(backend: Bench) -> None:
    backend.put("Patient/p", *named("Same"))
    assert backend.do(backend.store.scrub())
    assert backend.found(Search((Scan("Patient", plan.StringIs("name", "same")),))) == ["Patient/p"]


# --- the files of SQLite ----------------------------------------------------------------


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
