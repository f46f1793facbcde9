"""Erasing: what the database knows of a resource, removed for good.

Every table and every index is named here; a new index adds its statement to ``UNINDEX``, or
``unindexed`` removes its rows. Deleted rows are overwritten (``secure_delete``). What b-trees leave
in unused parts of their pages and what the log still holds goes with ``scrub``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

from fhir_server.model.resource import Key
from fhir_server.store.base import Erasure
from fhir_server.store.codec import Codec, Damaged, unpack
from fhir_server.store.sqlite import text
from fhir_server.store.sqlite.keys import Keys, Rows
from fhir_server.store.sqlite.rows import index_rows
from fhir_server.store.sqlite.schema import RID, SEQ, hold

MOST_REWRITTEN: Final = 2 << 30
"""Bytes of a database that is rewritten whole after an erase. A larger one is not: ``vehr doctor
--rewrite`` does it while no server runs, and a restored backup is free of what is left."""
QUICKLY: Final = 256 << 20
"""Bytes that are rewritten in a few seconds; a larger database waits for a quiet moment."""

UNINDEX: Final = {
    "postings": "DELETE FROM posting WHERE h = ? AND s = ? AND date = ? AND rid = ?",
    "strings": "DELETE FROM string WHERE h = ? AND text = ? AND rid = ?",
    "spans": "DELETE FROM span WHERE h = ? AND s = ? AND lo = ? AND rid = ? AND hi = ?",
}
_SEARCHED: Final = (
    "DELETE FROM posting WHERE rid = ?",
    "DELETE FROM string WHERE rid = ?",
    "DELETE FROM span WHERE rid = ?",
)
"""Without its values, the rows of a resource are looked for in the whole index."""

_RESOURCE: Final = "SELECT rid, version, seq, live FROM resource WHERE type = ? AND id = ?"
_OLD: Final = (
    "SELECT seq, version FROM version WHERE rid = ? AND until IS NOT NULL ORDER BY version"
)


class Doomed(NamedTuple):
    """What one erasure removes. ``gone``: positions of versions; ``kept``: of those that stay,
    in ascending order. ``rows``: in the index; None: its values cannot be read.
    """

    key: Key
    rid: int
    live: int
    whole: bool
    gone: tuple[int, ...]
    kept: tuple[int, ...]
    rows: Rows | None


class Moved(Exception):
    """Another version is current than was expected."""


class Eraser:
    """Statements on a write connection that is in a transaction."""

    def __init__(self, connection: sqlite3.Connection, keys: Keys, codec: Codec) -> None:
        self._connection = connection
        self._keys = keys
        self._codec = codec

    def look(self, erasure: Erasure) -> Doomed | None:
        """What would go; None if there is nothing. Raises Moved."""
        type_, id_ = erasure.key
        found = self._connection.execute(_RESOURCE, (type_, id_)).fetchone()
        if (found[1] if found else 0) != erasure.expect:
            raise Moved
        if found is None:
            return None
        rid, _, seq, live = found
        old = self._connection.execute(_OLD, (rid,)).fetchall()
        whole = erasure.versions is None
        wanted = None if erasure.versions is None else frozenset(erasure.versions)
        gone = tuple(at for at, number in old if wanted is None or number in wanted)
        kept = tuple(at for at, number in old if at not in gone)
        rows = self._rows(type_, seq) if whole and live else Rows(0, set(), set(), set())
        if whole:
            return Doomed(Key(type_, id_), rid, live, whole, (*gone, seq), (), rows)
        return Doomed(Key(type_, id_), rid, live, whole, gone, (*kept, seq), rows)

    def _rows(self, type_: str, seq: int) -> Rows | None:
        split, frame = self._connection.execute(
            "SELECT split, frame FROM version WHERE seq = ?", (seq,)
        ).fetchone()
        try:
            return self._keys.rows(type_, unpack(self._codec.open(frame)[split:]))
        except Damaged:
            return None

    def erase(self, doomed: Doomed) -> int:
        """How many versions went."""
        run = self._connection.execute
        text.forget(self._connection, self._codec, doomed.rid, doomed.gone)
        self._connection.executemany(
            "DELETE FROM version WHERE seq = ?", [(seq,) for seq in doomed.gone]
        )
        self._connection.executemany(
            "UPDATE version SET until = ? WHERE seq = ?",
            zip(doomed.kept[1:], doomed.kept, strict=False),
        )
        if doomed.whole:
            self._unindex(doomed)
            run("DELETE FROM resource WHERE rid = ?", (doomed.rid,))
            if doomed.live:
                run("UPDATE counter SET live = live - 1 WHERE type = ?", (doomed.key.type,))
        return len(doomed.gone)

    def _unindex(self, doomed: Doomed) -> None:
        if doomed.rows is None:
            for statement in _SEARCHED:
                self._connection.execute(statement, (doomed.rid,))
            return
        for table, rows in index_rows(doomed.rid, doomed.rows).items():
            self._connection.executemany(UNINDEX[table], rows)

    def hold(self, rid: int, seq: int) -> None:
        """Numbers that were given are never given again."""
        hold(self._connection, RID, rid)
        hold(self._connection, SEQ, seq)


def scrub(connection: sqlite3.Connection) -> bool:
    """Leaves nothing of deleted rows in the files: the database is rewritten and the log cut.

    False if somebody still reads from the log. Not in a transaction. The connection does not
    wait for others afterwards.
    """
    if _size(connection) <= MOST_REWRITTEN:
        return rewrite_whole(connection)
    return cut_log(connection)


def rewrite_whole(connection: sqlite3.Connection) -> bool:
    """The same for a database of any size."""
    text.merge(connection)
    connection.execute("PRAGMA temp_store = FILE")
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store = MEMORY")
    return cut_log(connection)


def takes_long(connection: sqlite3.Connection) -> bool:
    """Would a ``scrub`` hold up writes for more than a few seconds?"""
    return QUICKLY < _size(connection) <= MOST_REWRITTEN


def _size(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * size)


def cut_log(connection: sqlite3.Connection) -> bool:
    """Whether the log is empty now; False if somebody reads from it for long."""
    connection.execute("PRAGMA busy_timeout = 1000")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
    return not busy


_SUPERSEDED: Final = (
    "SELECT r.type, r.id, v.version, v.split, v.frame FROM version v"
    " CROSS JOIN resource r ON r.rid = v.rid WHERE v.until IS NOT NULL AND v.method <> 'DELETE'"
    " ORDER BY v.seq"
)


def superseded(
    connection: sqlite3.Connection, codec: Codec, patient: str
) -> Iterator[tuple[Key, int]]:
    """Old versions that were in a patient's compartment."""
    needle = patient.encode()
    for type_, id_, version, split, frame in connection.execute(_SUPERSEDED):
        raw = codec.open(frame)
        if needle in raw and patient in unpack(raw[split:]).patients:
            yield Key(type_, id_), version
