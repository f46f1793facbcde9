"""R20: killed at each statement of a migration, twice; the next start ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.store.sqlite import schema
from fhir_server.store.sqlite.opening import open_store
from tests.faults.flipping import COUNT, every
from tests.faults.load import patient
from tests.serving import served

pytestmark = pytest.mark.slow

FURTHER = (
    "ALTER TABLE resource ADD COLUMN extra INTEGER",
    "CREATE INDEX resource_extra ON resource (extra) WHERE extra IS NOT NULL",
    "UPDATE resource SET extra = rid WHERE live = 1",
    "CREATE TABLE further (rid INTEGER PRIMARY KEY, text TEXT) WITHOUT ROWID",
    "INSERT INTO further SELECT rid, id FROM resource",
)
"""What a later version of this program may do. It is undone in a test: no data is lost."""


def killed_at(folder: Path, statement: int) -> bool:
    """Opens the store in a process that kills itself when it comes to so many statements;
    False: it got to its end.
    """
    pid = os.fork()
    if pid == 0:
        _die_at(statement)
        asyncio.run(_open(folder))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status != 0


def _die_at(statement: int) -> None:
    left, real = [statement], schema.connect

    def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
        connection = real(path, readonly=readonly)
        connection.set_trace_callback(count)
        return connection

    def count(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    schema.connect = connect


async def _open(folder: Path) -> None:
    store = await open_store(folder, "serve")
    await store.close()


def killed_everywhere(fresh: Callable[[], Path], look: Callable[[Path], None]) -> int:
    """At each statement, and there again; how many there are."""
    statement = 0
    while True:
        statement += 1
        folder = fresh()
        if not killed_at(folder, statement):
            look(folder)
            return statement
        killed_at(folder, statement)
        asyncio.run(_open(folder))
        look(folder)


def test_r20_the_first_start(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def look(folder: Path) -> None:
        with sqlite3.connect(folder / schema.FILE) as connection:
            assert schema.schema_version(connection) == schema.VERSION
            assert len(schema.secret(connection)) == 16
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()

    found = killed_everywhere(lambda: tmp_path / str(next(numbers)), look)
    assert found > sum(map(len, schema.DELTAS))


def test_r20_a_later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On data: whole before or whole after it, and nothing of the record changes."""
    with served("sqlite", tmp_path / "old") as server:
        for number in range(COUNT):
            for version in (1, 2):
                server.put(f"Patient/p{number}", patient(f"{version}-{number}", f"p{number}"))
    bodies = asyncio.run(every(tmp_path / "old"))
    content = (tmp_path / "old" / schema.FILE).read_bytes()
    monkeypatch.setattr(schema, "DELTAS", (*schema.DELTAS, FURTHER))
    newest = schema.UNRELEASED + len(schema.DELTAS)
    monkeypatch.setattr(schema, "VERSION", newest)
    numbered = range(schema.UNRELEASED + 1, newest + 1)
    steps = tuple(f"PRAGMA user_version = {number}" for number in numbered)
    monkeypatch.setattr(schema, "_SET_VERSION", steps)
    numbers = iter(range(1000))

    def fresh() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        (folder / schema.FILE).write_bytes(content)
        return folder

    def look(folder: Path) -> None:
        connection = sqlite3.connect(folder / schema.FILE)
        assert schema.schema_version(connection) == newest
        (found,) = connection.execute("SELECT count(*) FROM further").fetchone()
        assert found == COUNT
        connection.close()
        assert asyncio.run(every(folder)) == bodies

    assert killed_everywhere(fresh, look) > len(FURTHER)
    migrated = tmp_path / str(next(numbers) - 1)
    monkeypatch.undo()
    with pytest.raises(Unavailable, match="use the newer program"):
        asyncio.run(_open(migrated))
