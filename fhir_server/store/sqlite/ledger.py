"""The ledger in SQLite: reads here, writes through the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from fhir_server.store.base import Stale
from fhir_server.store.ledger import LedgerWrite, Row, Value
from fhir_server.store.sqlite.prepared import PreparedSet
from fhir_server.store.sqlite.writer import KeptRow, Result, Writer

KEPT: Final = 10_000
"""Rows that are remembered: an access token is looked up with every request."""
_COLUMNS = "SELECT kind, key, value, revision, expires FROM ledger WHERE kind = ? AND "
_GET = "".join((_COLUMNS, "key = ?"))
_SCAN = "".join(
    (
        _COLUMNS,
        "key >= ? AND substr(key, 1, ?) = ? AND (expires IS NULL OR expires > ?) ORDER BY key",
    )
)


class SqliteLedger:
    """``connection``: for reading. ``now``: epoch seconds."""

    def __init__(
        self, connection: sqlite3.Connection, writer: Writer, now: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._now = now

    async def _write(self, write: LedgerWrite) -> bool:
        try:
            await self._writer.write(PreparedSet((), ledger=(write,)))
        except Stale:
            return False
        return True

    async def insert_unique(
        self, kind: str, key: str, value: Value, expires: float | None = None
    ) -> bool:
        return await self._write(LedgerWrite(kind, key, value, expect=0, expires=expires))

    async def get(self, kind: str, key: str) -> Row | None:
        found = self._found((kind, key))
        return None if found is None else _row(found.columns)

    async def get_many(self, places: Sequence[tuple[str, str]]) -> list[Row | None]:
        found = map(self._found, places)
        return [None if one is None else one.row for one in found]

    def _found(self, place: tuple[str, str]) -> KeptRow | None:
        kept = self._writer.kept
        if kept is not None and place in kept:
            found = kept[place]
        else:
            columns = self._connection.execute(_GET, place).fetchone()
            found = None if columns is None else KeptRow(columns, _row(columns))
            if kept is not None:
                if len(kept) >= KEPT:
                    kept.clear()
                kept[place] = found
        if found is None or (found.row.expires is not None and found.row.expires <= self._now()):
            return None
        return found

    async def cas(
        self, kind: str, key: str, value: Value | None, revision: int, expires: float | None = None
    ) -> bool:
        return await self._write(LedgerWrite(kind, key, value, expect=revision, expires=expires))

    async def scan(self, kind: str, prefix: str = "") -> list[Row]:
        rows = self._connection.execute(_SCAN, (kind, prefix, len(prefix), prefix, self._now()))
        return [_row(row) for row in rows]

    async def expire(self) -> int:
        result: Result = await self._writer.write(PreparedSet((), expire=self._now()))
        return result.expired


def _row(columns: tuple[Any, ...]) -> Row:
    kind, key, value, revision, expires = columns
    return Row(kind, key, msgspec.json.decode(value), revision, expires)
