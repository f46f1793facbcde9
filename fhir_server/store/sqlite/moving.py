"""Moving a database file: read as it is at one commit, or filled from elsewhere."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server.model.resource import Key
from fhir_server.store.codec import unpack
from fhir_server.store.erase_log import KIND as ERASED
from fhir_server.store.ledger import Row
from fhir_server.store.moving import Mark, MoveError, Point, Version
from fhir_server.store.sqlite import dictionaries, schema
from fhir_server.store.sqlite.group import STATEMENTS
from fhir_server.store.sqlite.keys import NO_ROWS, Keys
from fhir_server.store.sqlite.schema import FILE

MANY: Final = 500
"""Versions that are read, written and committed at once."""
MARK: Final = "copying"

_VERSIONS: Final = (
    "SELECT v.seq, v.rid, r.type, r.id, v.version, v.updated, v.method, v.until, n.updated,"
    " v.split, v.frame FROM version v CROSS JOIN resource r ON r.rid = v.rid"
    " LEFT JOIN version n ON n.seq = v.until"
    " WHERE v.seq > ? AND v.seq <= ? ORDER BY v.seq LIMIT ?"
)
_ROWS: Final = "SELECT kind, key, value, revision, expires FROM ledger ORDER BY kind, key"
_NAME: Final = "INSERT OR IGNORE INTO resource VALUES (?, ?, ?, 0, 0, 0, 0, 0)"
_CURRENT: Final = (
    "UPDATE resource SET version = ?, seq = ?, updated = ?, date = ?, live = ? WHERE rid = ?"
)
_VERSION: Final = "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ROW: Final = "INSERT INTO ledger VALUES (?, ?, ?, ?, ?)"
_KEEP: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_LIVE: Final = "INSERT INTO counter VALUES (?, ?)"


class SqliteSide:
    """Reads one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.codec = dictionaries.load(connection)

    async def versions(self, since: int, point: Point) -> AsyncIterator[list[Version]]:
        while found := self.connection.execute(_VERSIONS, (since, point.seq, MANY)).fetchall():
            yield [self._version(columns, point.seq) for columns in found]
            since = found[-1][0]

    def _version(self, columns: tuple[Any, ...], upto: int) -> Version:
        seq, rid, type_, id_, version, updated, method, until, closed, split, frame = columns
        if until is None or until > upto:
            until, closed = 0, 0
        raw = self.codec.open(frame)
        key = Key(type_, id_)
        return Version(seq, rid, key, version, updated, method, until, closed, split, raw)

    async def rows(self) -> AsyncIterator[Row]:
        for kind, key, value, revision, expires in self.connection.execute(_ROWS):
            yield Row(kind, key, msgspec.json.decode(value), revision, expires)

    async def close(self) -> None:
        self.connection.close()


class SqliteSource(SqliteSide):
    """The database of a data directory, also of one that is in use."""

    def __init__(self, folder: Path) -> None:
        if not (folder / FILE).is_file():
            raise MoveError(f"there is no database in {folder}")
        connection = schema.connect(folder / FILE, readonly=True)
        if schema.schema_version(connection) != schema.VERSION:
            raise MoveError(f"the database in {folder} is of an older program: start it once")
        connection.execute("BEGIN")
        super().__init__(connection)

    async def point(self) -> Point:
        run = self.connection.execute
        (erased,) = run("SELECT count(*) FROM ledger WHERE kind = ?", (ERASED,)).fetchone()
        identity = hashlib.sha256(schema.secret(self.connection)).hexdigest()
        seq, rid = (schema.last(self.connection, number) for number in (schema.SEQ, schema.RID))
        return Point(identity, seq, rid, erased)


class SqliteTarget(SqliteSide):
    """A data directory that is not there yet; it is ``DIR.part`` until it is complete."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MoveError(f"{folder} is not empty: a copy does not overwrite")
        self._folder = folder
        self.part = folder.with_name(folder.name + ".part")
        self.part.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.part / "copy.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MoveError(f"another copy into {folder} is running") from None
        if not (self.part / FILE).exists() and set(os.listdir(self.part)) - {"copy.lock"}:
            raise MoveError(f"{self.part} is left of something else: remove it")
        self._open()

    def _open(self) -> None:
        connection = schema.connect(self.part / FILE)
        schema.migrate(connection)
        dictionaries.record(connection)
        super().__init__(connection)
        self._keys = Keys(schema.secret(connection))

    async def mark(self) -> Mark | None:
        found = self.connection.execute("SELECT value FROM meta WHERE name = ?", (MARK,)).fetchone()
        return None if found is None else msgspec.json.decode(found[0], type=Mark)

    async def clear(self) -> None:
        self.connection.close()
        for path in self.part.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "copy.lock":
                path.unlink()
        self._open()

    async def add_rows(self, rows: list[Row]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            _ROW,
            [(r.kind, r.key, msgspec.json.encode(r.value), r.revision, r.expires) for r in rows],
        )
        self.connection.execute("COMMIT")

    async def begin(self, mark: Mark) -> None:
        self.connection.execute(_KEEP, (MARK, msgspec.json.encode(mark)))

    async def add(self, versions: list[Version], mark: Mark) -> None:
        run, names = self.connection.executemany, [(v.rid, *v.key) for v in versions]
        self.connection.execute("BEGIN IMMEDIATE")
        run(_NAME, names)
        run(_VERSION, [self._columns(v) for v in versions])
        self._index(v for v in versions if not v.until)
        self.connection.execute(_KEEP, (MARK, msgspec.json.encode(mark)))
        self.connection.execute("COMMIT")

    def _columns(self, v: Version) -> tuple[Any, ...]:
        frame = self.codec.close(v.raw)
        return (v.seq, v.rid, v.version, v.updated, v.method, v.until or None, v.split, frame)

    def _index(self, current: Iterable[Version]) -> None:
        named: list[tuple[Any, ...]] = []
        for v in current:
            values = unpack(v.raw[v.split :]) if v.live else None
            rows = NO_ROWS if values is None else self._keys.rows(v.key.type, values)
            named.append((v.version, v.seq, v.updated, rows.date, int(v.live), v.rid))
            self.connection.executemany(
                STATEMENTS["posting"], [(h, s, rows.date, v.rid) for h, s in rows.postings]
            )
            self.connection.executemany(
                STATEMENTS["string"], [(h, text, v.rid) for h, text in rows.strings]
            )
            self.connection.executemany(
                STATEMENTS["span"], [(h, s, lo, hi, v.rid) for h, s, lo, hi in rows.spans]
            )
        self.connection.executemany(_CURRENT, named)

    async def end(self, point: Point, live: dict[str, int]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(_LIVE, sorted(live.items()))
        schema.hold(self.connection, schema.SEQ, point.seq)
        schema.hold(self.connection, schema.RID, point.rid)
        self.connection.execute("DELETE FROM meta WHERE name = ?", (MARK,))
        self.connection.execute("COMMIT")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()
        (self.part / "copy.lock").unlink()
        if self._folder.exists():
            self._folder.rmdir()
        self.part.rename(self._folder)
        _sync(self._folder.absolute().parent)

    async def close(self) -> None:
        await super().close()
        os.close(self._lock)


def _columns(row: Row) -> tuple[Any, ...]:
    return (row.kind, row.key, msgspec.json.encode(row.value), row.revision, row.expires)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
