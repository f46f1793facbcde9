"""What was erased stays erased: the erase log applied to a database that is older.

For a database that nobody else has open.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fhir_server.model.datatypes import parse_instant
from fhir_server.model.resource import Key
from fhir_server.store.base import Erasure
from fhir_server.store.erase_log import KIND, Entry
from fhir_server.store.sqlite import dictionaries, schema
from fhir_server.store.sqlite.erasing import Eraser, scrub
from fhir_server.store.sqlite.keys import Keys

_VERSIONS: Final = (
    "SELECT v.version, v.updated, v.until IS NULL FROM version v JOIN resource r ON r.rid = v.rid"
    " WHERE r.type = ? AND r.id = ? ORDER BY v.version"
)
_BLOB_ROW: Final = "DELETE FROM ledger WHERE kind = 'blob' AND key = ? RETURNING value"
_USE_ROW: Final = "DELETE FROM ledger WHERE kind = 'blob-use' AND key = ?"
_NAMED: Final = "SELECT json_extract(value, '$.sha256') FROM ledger WHERE kind = 'blob'"
_KNOWN: Final = "SELECT 1 FROM ledger WHERE kind = ? AND key = ?"
_RECORD: Final = "INSERT INTO ledger VALUES (?, ?, ?, 1, NULL)"


class Reapplied(NamedTuple):
    """``entries``: erases that the database did not know; ``resources``, ``versions``: what went
    by them. ``current``: versions that were erased when they were old and are current here; they
    stay, because nothing newer is there.
    """

    entries: int
    resources: int
    versions: int
    current: tuple[str, ...]


def reapply(folder: Path, log: Iterable[Entry]) -> Reapplied:
    """Erases in the data directory ``folder`` what the log names, as of when it was erased.

    What was written with the same id afterwards stays. Raises sqlite3.Error.
    """
    with closing(schema.connect(folder / schema.FILE)) as connection:
        schema.migrate(connection)
        dictionaries.record(connection)
        unknown = [e for e in log if not connection.execute(_KNOWN, (KIND, e.key)).fetchone()]
        if not unknown:
            return Reapplied(0, 0, 0, ())
        connection.execute("BEGIN IMMEDIATE")
        work = _Work(connection)
        for entry in unknown:
            work.apply(entry)
        work.hold()
        connection.execute("COMMIT")
        scrub(connection)
        named = {sha256 for (sha256,) in connection.execute(_NAMED)}
    for path in _blobs(folder / "blobs"):
        if path.name not in named:
            path.unlink()
    return Reapplied(len(unknown), work.resources, work.versions, tuple(work.current))


class _Work:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        keys = Keys(schema.secret(connection))
        self._eraser = Eraser(connection, keys, dictionaries.load(connection))
        self._last = schema.last(connection, schema.RID), schema.last(connection, schema.SEQ)
        self.resources = self.versions = 0
        self.current: list[str] = []

    def apply(self, entry: Entry) -> None:
        key, at = Key(entry.type, entry.id), parse_instant(entry.at)
        rows = self._connection.execute(_VERSIONS, key).fetchall()
        wanted = None if entry.versions is None else frozenset(entry.versions)
        older = [row for row in rows if row[1] <= at and (wanted is None or row[0] in wanted)]
        if older:
            self._erase(key, rows[-1][0], older, whole=wanted is None)
        value = msgspec.json.encode(entry)
        self._connection.execute(_RECORD, (KIND, entry.key, value))

    def _erase(
        self, key: Key, newest: int, older: list[tuple[int, int, int]], *, whole: bool
    ) -> None:
        versions = tuple(version for version, _, _ in older)
        if whole and newest in versions:
            erasure = Erasure(key, newest)
            self.resources += 1
        else:
            if newest in versions:
                self.current.append(f"{key}/_history/{newest}")
            erasure = Erasure(key, newest, tuple(v for v in versions if v != newest))
        doomed = self._eraser.look(erasure)
        if doomed is not None:
            self.versions += self._eraser.erase(doomed)
        for version in versions:
            if erasure.versions is None or version in erasure.versions:
                self._unname(f"{key}/{version}")

    def _unname(self, place: str) -> None:
        for (value,) in self._connection.execute(_BLOB_ROW, (place,)).fetchall():
            sha256 = msgspec.json.decode(value)["sha256"]
            self._connection.execute(_USE_ROW, (f"{sha256}/{place}",))

    def hold(self) -> None:
        self._eraser.hold(*self._last)


def _blobs(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)
