"""$reindex: a job that makes the index anew, exactly, while writes go on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.drafts import Draft
from fhir_server.access.reindexing import Reindexing, State
from fhir_server.app import assemble
from fhir_server.config import Settings
from fhir_server.formats.json import loads
from fhir_server.model.problem import ServerError
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Reindexed
from fhir_server.store.sqlite.opening import open_store
from tests.search.test_custom import BY_EYES, found, parameter, patient, reindex
from tests.serving import BACKENDS, Server, issue, looks_into_sqlite, served


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


async def load(server: Server, count: int, start: int = 0) -> None:
    session = server.domain.system_session("load")
    drafts = [
        Draft("PUT", Key("Patient", f"p{n}"), patient("blue" if n % 3 else "brown", id=f"p{n}"))
        for n in range(start, start + count)
    ]
    for at in range(0, len(drafts), 200):
        await session.write(drafts[at : at + 200])


def eyes(server: Server, colour: str) -> list[str]:
    ids: list[str] = []
    answer = server.get(f"Patient?eyes={colour}&_count=500").json()
    while True:
        ids += [e["resource"]["id"] for e in answer.get("entry", ())]
        url = next((x["url"] for x in answer["link"] if x["relation"] == "next"), None)
        if url is None:
            return sorted(ids)
        answer = server.get(url).json()


def rows(path: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """Every row of the index tables."""
    with sqlite3.connect(path / "vehr.sqlite") as connection:
        return {
            table: Counter(connection.execute(sql).fetchall())
            for table, sql in {
                "posting": "SELECT * FROM posting",
                "string": "SELECT * FROM string",
                "span": "SELECT * FROM span",
                "date": "SELECT rid, date FROM resource WHERE live = 1",
            }.items()
        }


async def expected(server: Server) -> dict[str, Counter[tuple[Any, ...]]]:
    """The rows that the resources, extracted from scratch, have."""
    store: Any = server.domain.store
    keys, connection = store._reader.keys, store._reader.connection
    made: dict[str, Counter[tuple[Any, ...]]] = {
        name: Counter() for name in ("posting", "string", "span", "date")
    }
    for rid, type_, id_ in connection.execute("SELECT rid, type, id FROM resource WHERE live = 1"):
        [stored] = await store.current([Key(type_, id_)])
        values = server.domain.engine.extract(loads(stored.body))
        new = keys.rows(type_, values)
        made["posting"].update((h, s, new.date, rid) for h, s in new.postings)
        made["string"].update((h, text, rid) for h, text in new.strings)
        made["span"].update((*span, rid) for span in new.spans)
        made["date"][rid, new.date] += 1
    return made


def test_levels(server: Server) -> None:
    one = server.create(patient("blue"))["id"]
    server.create(parameter("eyes", BY_EYES))
    instance = reindex(server, f"Patient/{one}/$reindex")
    assert instance.status_code == 200
    assert server.get("Patient?eyes=blue").status_code == 400
    assert reindex(server, "Observation/$reindex").status_code == 200
    assert server.get("Patient?eyes=blue").status_code == 400
    system = reindex(server, "$reindex?type=Patient")
    assert system.status_code == 200
    assert found(server, "eyes=blue") == [one]
    assert reindex(server, "$reindex").status_code == 200
    asked = {"prefer": "respond-async"}
    direct = reindex(server, "Patient/$reindex", headers=asked)
    assert direct.json()["resourceType"] == "Parameters"


def test_what_is_wrong_is_refused(server: Server) -> None:
    assert server.get("Patient/$reindex").status_code == 405
    assert server.send("POST", "$reindex?type=Nothing").status_code == 400
    assert server.send("POST", "Patient/$reindex?type=Patient").status_code == 400
    assert server.send("POST", "Patient/absent/$reindex").status_code == 404
    assert server.send("POST", "$reindex?nothing=1").status_code == 400


def test_progress_and_the_whole_of_it(server: Server) -> None:
    server.run(load(server, 600))
    server.create(parameter("eyes", BY_EYES))
    done = reindex(server)
    assert done.status_code == 200, done.text
    assert {"name": "renewed", "valueInteger": 600} in done.json()["parameter"]
    assert len(eyes(server, "blue")) == 400 and len(eyes(server, "brown")) == 200
    again = reindex(server).json()["parameter"]
    assert {"name": "renewed", "valueInteger": 0} in again


def test_a_newer_version_wins(server: Server) -> None:
    server.put("Patient/1", {"resourceType": "Patient", "id": "1", "gender": "male"})
    store = server.domain.store
    [old] = server.run(store.current([Key("Patient", "1")]))
    assert old is not None
    server.put("Patient/1", {"resourceType": "Patient", "id": "1", "gender": "female"})
    stale = Reindexed(old.key, old.version, IndexValues())
    assert server.run(store.reindex([stale])) == 0
    assert found(server, "gender=female") == ["1"]
    server.delete("Patient/1")
    assert server.run(store.reindex([replace(stale, version=3)])) == 0
    assert server.get("Patient/1/_history").json()["total"] == 3


def test_no_version_is_made(server: Server) -> None:
    made = server.create(patient("blue"))
    before = server.run(server.domain.store.position())
    server.create(parameter("eyes", BY_EYES))
    assert reindex(server).status_code == 200
    assert server.run(server.domain.store.position()) == before + 1
    assert server.get(f"Patient/{made['id']}").json() == made


@looks_into_sqlite
def test_writes_go_on_and_the_index_is_exact(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        server.run(load(server, 2000))
        server.create(parameter("eyes", BY_EYES))
        reindexing = Reindexing(server.domain.engine)
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before)

        async def write() -> None:
            session = server.domain.system_session("test")
            for n in range(0, 300, 3):
                body = patient("green", id=f"p{n}")
                await session.write([Draft("PUT", Key("Patient", f"p{n}"), body)])
                await session.write([Draft("DELETE", Key("Patient", f"p{n + 1}"))])
                fresh = session.new_id()
                await session.write([Draft("POST", Key("Patient", fresh), patient("green"))])

        async def run() -> State:
            await server.domain.engine.parameters.refresh()  # type: ignore[union-attr]
            watcher = asyncio.create_task(watch())
            writer = asyncio.create_task(write())
            state = await reindexing.begin(["Patient"])
            while not state.finished:
                state = await reindexing.step(state)
            await writer
            watcher.cancel()
            return state

        state = server.run(run())
        assert state.counts["Patient"] >= 1900
        print(f"longest wait of the loop {longest * 1000:.1f} ms")
        assert len(eyes(server, "green")) == 200
        wanted = server.run(expected(server))
        for table, there in rows(tmp_path).items():
            assert there == wanted[table], table


@looks_into_sqlite
def test_what_the_index_has_lost_is_put_back(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        server.run(load(server, 50))
        with sqlite3.connect(tmp_path / "vehr.sqlite") as connection:
            connection.execute("DELETE FROM posting WHERE rid % 2 = 0")
            connection.execute("DELETE FROM string WHERE rid % 5 = 0")
        connection.close()
        done = reindex(server)
        assert done.status_code == 200
        wanted = server.run(expected(server))
        for table, there in rows(tmp_path).items():
            assert there == wanted[table], table


@looks_into_sqlite
def test_a_killed_reindex_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its state is kept; another process takes it up and visits the rest only."""

    async def first() -> dict[str, Any]:
        store = await open_store(tmp_path, "serve")
        domain = await assemble(Settings(store="sqlite:", data=tmp_path), store)
        reindexing = Reindexing(domain.engine)
        state = await reindexing.begin(["Patient"])
        for _ in range(2):
            state = await reindexing.step(state)
        await store.close()
        return state.to_json()

    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        server.run(load(server, 1000))
        server.create(parameter("eyes", BY_EYES))
    kept = asyncio.run(first())
    assert kept["seen"] == 500
    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        assert server.get("Patient?eyes=blue").status_code == 400
        reindexing = Reindexing(server.domain.engine)

        async def rest() -> State:
            state = State.of(kept)
            await reindexing.refresh()
            while not state.finished:
                state = await reindexing.step(state)
            return state

        state = server.run(rest())
        assert state.counts == {"Patient": 1000} and state.renewed == 1000
        assert len(eyes(server, "blue")) == 666


def test_one_that_saw_nothing_does_not_say_that_it_is_done(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run(load(server, 10))
    server.create(parameter("eyes", BY_EYES))
    store = server.domain.store
    run = store.run

    async def blind(search: Search, *more: Any) -> Any:
        if search.scans == (Scan("Patient"),):
            search = replace(search, scans=(Scan("Basic"),))
        return await run(search, *more)

    monkeypatch.setattr(store, "run", blind)
    with pytest.raises(ServerError, match="0 of 10"):
        server.run(_all(Reindexing(server.domain.engine)))
    failed = reindex(server)
    assert failed.status_code == 500 and "0 of 10" in issue(failed)["diagnostics"]
    monkeypatch.undo()
    assert server.get("Patient?eyes=blue").status_code == 400


async def _all(reindexing: Reindexing) -> State:
    state = await reindexing.begin()
    while not state.finished:
        state = await reindexing.step(state)
    return state
