"""R10: another program holds the database. Retries are bounded, then 503 with Retry-After;
the loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fhir_server.store.sqlite import schema, writer
from tests.faults.load import patient
from tests.serving import Server, served

pytestmark = pytest.mark.slow


@contextmanager
def held(folder: Path) -> Iterator[sqlite3.Connection]:
    """The write lock of the database, held by somebody else."""
    connection = sqlite3.connect(
        folder / schema.FILE, isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        connection.close()


def test_r10_writes_wait_a_while_then_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BUSY_SECONDS", 0.3)
    with served("sqlite", tmp_path) as server:
        server.create(patient("before"))
        with held(tmp_path):
            answer = server.post("Patient", patient("busy"))
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
            assert "another program" in answer.json()["issue"][0]["diagnostics"]
            assert server.get("Patient").json()["total"] == 1
            health = server.get("/health")
            assert (health.status_code, health.text[:9]) == (200, "degraded:")
        assert server.post("Patient", patient("after")).status_code == 201
        assert server.get("/health").text == "ready\n"
        assert server.get("Patient").json()["total"] == 2


def test_r10_health_alone_finds_out_that_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BUSY_SECONDS", 0.1)
    with served("sqlite", tmp_path) as server:
        with held(tmp_path):
            assert server.post("Patient", patient("busy")).status_code == 503
        assert server.get("/health").text == "ready\n"


def test_r10_a_storm_of_short_locks_fails_nobody(tmp_path: Path) -> None:
    with served("sqlite", tmp_path) as server:
        server.create(patient("seen"))
        stop, holds = threading.Event(), 0

        def storm() -> None:
            nonlocal holds
            connection = sqlite3.connect(tmp_path / schema.FILE, isolation_level=None, timeout=30)
            while not stop.is_set():
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(0.03)
                connection.execute("ROLLBACK")
                holds += 1
                time.sleep(0.02)
            connection.close()

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            statuses = server.run(mixed(server))
        finally:
            stop.set()
            thread.join()
        assert statuses == {200, 201} and holds > 3
        assert server.get("Patient").json()["total"] == 81


def test_r10_the_loop_goes_on_while_a_write_waits(tmp_path: Path) -> None:
    """A read that was sent after the write is answered before it."""
    with served("sqlite", tmp_path) as server, held(tmp_path) as holder:

        async def both() -> list[str]:
            async with server._client() as client:
                body, ended = patient("waits"), list[str]()
                headers = {"content-type": "application/fhir+json"}

                async def write() -> None:
                    answer = await client.post("/fhir/Patient", json=body, headers=headers)
                    ended.append(f"write {answer.status_code}")

                writing = asyncio.create_task(write())
                await asyncio.sleep(0.2)
                answer = await client.get("/fhir/Patient")
                ended.append(f"read {answer.status_code}")
                holder.execute("ROLLBACK")
                await writing
                return ended

        assert server.run(both()) == ["read 200", "write 201"]


async def mixed(server: Server) -> set[int]:
    """Four clients that create, and reads beside them; statuses."""
    statuses = set[int]()
    headers = {"content-type": "application/fhir+json"}
    async with server._client() as client:

        async def creates(name: str) -> None:
            for number in range(20):
                body = patient(f"{name}-{number}")
                answer = await client.post("/fhir/Patient", json=body, headers=headers)
                statuses.add(answer.status_code)
                await asyncio.sleep(0.01)

        writers = [asyncio.create_task(creates(f"storm-{n}")) for n in range(4)]
        while not all(task.done() for task in writers):
            statuses.add((await client.get("/fhir/Patient?_count=1")).status_code)
            await asyncio.sleep(0.005)
        for task in writers:
            task.result()
    return statuses
