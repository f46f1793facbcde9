"""The ledger in memory: the executable specification of ledgers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace

from fhir_server.store.base import Stale
from fhir_server.store.ledger import LedgerWrite, Row, Value


class MemoryLedger:
    """A ``Ledger`` in a dict. ``clock``: epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: dict[tuple[str, str], Row] = {}

    def _live(self, kind: str, key: str) -> Row | None:
        row = self._rows.get((kind, key))
        if row is None or (row.expires is not None and row.expires <= self._clock()):
            return None
        return row

    def write_all(self, writes: Iterable[LedgerWrite]) -> None:
        """All of them, or ``Stale`` and none."""
        before = dict(self._rows)
        for write in writes:
            if not self._write(write):
                self._rows = before
                raise Stale()

    def _write(self, write: LedgerWrite) -> bool:
        live = self._live(write.kind, write.key)
        revision = live.revision if live else 0
        if write.expect not in (None, revision):
            return False
        if write.value is None:
            self._rows.pop((write.kind, write.key), None)
        else:
            row = Row(write.kind, write.key, deepcopy(write.value), revision + 1, write.expires)
            self._rows[write.kind, write.key] = row
        return True

    async def insert_unique(
        self, kind: str, key: str, value: Value, expires: float | None = None
    ) -> bool:
        return self._write(LedgerWrite(kind, key, value, expect=0, expires=expires))

    async def get(self, kind: str, key: str) -> Row | None:
        row = self._live(kind, key)
        return replace(row, value=deepcopy(row.value)) if row else None

    async def get_many(self, places: Sequence[tuple[str, str]]) -> list[Row | None]:
        return [await self.get(kind, key) for kind, key in places]

    async def cas(
        self, kind: str, key: str, value: Value | None, revision: int, expires: float | None = None
    ) -> bool:
        return self._write(LedgerWrite(kind, key, value, expect=revision, expires=expires))

    async def scan(self, kind: str, prefix: str = "") -> list[Row]:
        keys = sorted(k for n, k in self._rows if n == kind and k.startswith(prefix))
        rows = [self._live(kind, k) for k in keys]
        return [replace(r, value=deepcopy(r.value)) for r in rows if r]

    async def expire(self) -> int:
        gone = [place for place in self._rows if self._live(*place) is None]
        for place in gone:
            del self._rows[place]
        return len(gone)
