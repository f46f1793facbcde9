"""The index of the log (``-shm``): whoever looks into it keeps the locks of this process on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.store.sqlite import schema, wal
from fhir_server.store.sqlite.writer import LocalWriter

ALONE = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
    except BlockingIOError:
        sys.exit(3)
"""
"""Another process asks whether it is the first that opens the database, as SQLite does, by the byte
after its eight locks (https://www.sqlite.org/walformat.html#locks)."""


def killed(folder: Path) -> Path:
    """A database with commits in its log, which nobody has open."""
    folder.mkdir()
    made = folder / "made"
    connection = schema.connect(made)
    schema.migrate(connection)
    for end in ("", "-wal"):
        shutil.copy(f"{made}{end}", folder / (schema.FILE + end))
    connection.close()
    return folder / schema.FILE


def alone(database: Path) -> bool:
    command = [sys.executable, "-c", ALONE, f"{database}-shm"]
    return subprocess.run(command, check=False).returncode == 0


@pytest.fixture
def opened() -> Iterator[Callable[[Path], LocalWriter]]:
    writers: list[LocalWriter] = []

    def open_(database: Path) -> LocalWriter:
        writers.append(LocalWriter(database, time.time))
        return writers[-1]

    yield open_
    for writer in writers:
        asyncio.run(writer.close())


def test_after_a_kill_the_next_process_is_not_the_first(
    tmp_path: Path, opened: Callable[[Path], LocalWriter]
) -> None:
    database = killed(tmp_path / "a")
    assert wal.commits(Path(f"{database}-wal"))
    opened(database)
    assert not alone(database)


def test_what_is_kept_open_goes_with_the_database(
    tmp_path: Path, opened: Callable[[Path], LocalWriter]
) -> None:
    for name in "abc":
        database = killed(tmp_path / name)
        connection = sqlite3.connect(database)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for _ in range(2):
            wal.recovered(database, [1], connection)
        connection.close()
    opened(killed(tmp_path / "d"))
    assert all(os.fstat(file).st_nlink for file in wal.KEPT)
