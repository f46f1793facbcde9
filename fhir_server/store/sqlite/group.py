"""The statements of one commit group on the write connection.

A set is checked completely before anything of it is written, so most sets need no
savepoint: one that is stale simply leaves no rows. Rows of all sets are then written with
one ``executemany`` per table, in slices, so that the loop never waits long.

That an id is unused is seldom wrong and the unique index says so anyway, as of the key of a
fresh row of the ledger: a trusting group does not look. When one is used after all, the group is
rolled back and made anew, looking.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from fhir_server.model.problem import Problem
from fhir_server.model.resource import Key
from fhir_server.store.base import Committed, Stale
from fhir_server.store.codec import Codec, unpack
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite import text
from fhir_server.store.sqlite.erasing import Doomed, Eraser, Moved
from fhir_server.store.sqlite.keys import NO_ROWS, Keys, Rows
from fhir_server.store.sqlite.prepared import PreparedChange, PreparedSet
from fhir_server.store.sqlite.rows import Budget
from fhir_server.store.sqlite.search import guard_holds
from fhir_server.store.sqlite.view import View

CHECKED: Final = 256
"""Changes that are checked before others get a turn on the loop."""
ERASED: Final = 16
"""Resources that are erased before others get a turn."""
WRITTEN: Final = 1024
"""Rows that one ``executemany`` writes before others get a turn."""

STATEMENTS: Final = {
    "resource": "INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "moved": "UPDATE resource SET version = ?, seq = ?, updated = ?, date = ?, live = ?"
    " WHERE rid = ?",
    "version": "INSERT INTO version VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
    "until": "UPDATE version SET until = ? WHERE seq = ?",
    "reframe": "UPDATE version SET split = ?, frame = ? WHERE seq = ?",
    "redate": "UPDATE resource SET date = ? WHERE rid = ?",
    "unpost": "DELETE FROM posting WHERE h = ? AND s = ? AND date = ? AND rid = ?",
    "unstring": "DELETE FROM string WHERE h = ? AND text = ? AND rid = ?",
    "unspan": "DELETE FROM span WHERE h = ? AND s = ? AND lo = ? AND rid = ? AND hi = ?",
    "posting": "INSERT INTO posting VALUES (?, ?, ?, ?)",
    "string": "INSERT INTO string VALUES (?, ?, ?)",
    "span": "INSERT INTO span VALUES (?, ?, ?, ?, ?)",
    "ledger": "INSERT INTO ledger VALUES (?, ?, ?, 1, ?)",
}
_COUNT: Final = (
    "INSERT INTO counter VALUES (?, ?) ON CONFLICT (type) DO UPDATE SET live = live + excluded.live"
)


class Current(NamedTuple):
    rid: int
    version: int
    seq: int
    live: int
    date: int


class Group:
    """Sets that will commit together. ``numbers``: the next rid and seq. ``now``: epoch
    seconds, for ledger expiry.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        keys: Keys,
        codec: Codec,
        numbers: tuple[int, int],
        now: Callable[[], float],
        *,
        trusting: bool = False,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self.next_rid, self.next_seq = numbers
        self._now = now
        self._trusting = trusting
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in STATEMENTS}
        self._touched: set[tuple[str, str]] = set()
        self._counts: Counter[str] = Counter()

    async def add(self, prepared: PreparedSet) -> Committed:
        """Checks a set and queues its rows, or raises Stale and leaves nothing of it."""
        ledger = self._dubious(prepared.ledger)
        if not ledger and self._is_plain(prepared):
            (change,) = prepared.changes
            self._touched.add((change.type, change.id))
            seq = self._queue(change, None)
            self._queue_fresh(prepared.ledger)
            return Committed((seq,))
        keys = {(c.type, c.id) for c in prepared.changes}
        if prepared.guards or not self._touched.isdisjoint(keys):
            await self.flush()
        for guard in prepared.guards:
            view = View(self._connection, self._keys, self._codec, Budget(None, inline=False))
            if not guard_holds(view, guard):
                raise Stale()
        if len(keys) < len(prepared.changes):
            return await self._add_twice(prepared)
        found = await self._check(prepared.changes)
        self._check_ledger(ledger)
        seqs = await self._queue_all(prepared.changes, found)
        self._touched |= keys
        self._write_ledger(ledger)
        if len(ledger) < len(prepared.ledger):
            self._queue_fresh(prepared.ledger)
        return Committed(tuple(seqs))

    def _is_plain(self, prepared: PreparedSet) -> bool:
        """One new resource: there is nothing to check."""
        if not self._trusting or len(prepared.changes) != 1 or prepared.guards:
            return False
        change = prepared.changes[0]
        return change.expect == 0 and (change.type, change.id) not in self._touched

    async def erase(self, prepared: PreparedSet) -> tuple[int, ...]:
        """How many versions went of each; raises Stale and leaves everything."""
        await self.flush()
        eraser = Eraser(self._connection, self._keys, self._codec)
        doomed: list[Doomed | None] = []
        moved: list[Key] = []
        for number, erasure in enumerate(prepared.erasures, 1):
            try:
                doomed.append(eraser.look(erasure))
            except Moved:
                moved.append(Key(*erasure.key))
            if number % CHECKED == 0:
                await asyncio.sleep(0)
        if moved:
            raise Stale(tuple(moved))
        self._check_ledger(prepared.ledger)
        eraser.hold(self.next_rid - 1, self.next_seq - 1)
        counts: list[int] = []
        for one in doomed:
            counts.append(0 if one is None else eraser.erase(one))
            if len(counts) % ERASED == 0:
                await asyncio.sleep(0)
        self._write_ledger(prepared.ledger)
        return tuple(counts)

    async def _queue_all(
        self, changes: tuple[PreparedChange, ...], found: list[Current | None]
    ) -> list[int]:
        """Queues the rows of a set; none of them if one cannot be made."""
        if len(changes) == 1 and found[0] is None and not changes[0].reindexes:
            return [self._queue(changes[0], None)]
        marks = {name: len(rows) for name, rows in self._rows.items()}
        numbers, counts = (self.next_rid, self.next_seq), self._counts.copy()
        seqs: list[int] = []
        try:
            for change, current in zip(changes, found, strict=True):
                queue = self._reindex if change.reindexes else self._queue
                seqs.append(queue(change, current))
                if len(seqs) % CHECKED == 0:
                    await asyncio.sleep(0)
        except Problem:
            for name, length in marks.items():
                del self._rows[name][length:]
            (self.next_rid, self.next_seq), self._counts = numbers, counts
            raise
        return seqs

    async def _add_twice(self, prepared: PreparedSet) -> Committed:
        """A set with several versions of one resource: under a savepoint, one by one."""
        await self.flush()
        numbers = self.next_rid, self.next_seq
        self._connection.execute("SAVEPOINT once")
        try:
            seqs: list[int] = []
            for change in prepared.changes:
                (current,) = await self._check((change,))
                seqs.append(self._queue(change, current))
                await self.flush()
            self._check_ledger(prepared.ledger)
            self._write_ledger(prepared.ledger)
        except (Stale, Problem):
            self._discard()
            self._connection.execute("ROLLBACK TO once")
            self.next_rid, self.next_seq = numbers
            raise
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE once")
        return Committed(tuple(seqs))

    async def _check(self, changes: tuple[PreparedChange, ...]) -> list[Current | None]:
        """What is current of each; raises Stale with the keys whose version moved."""
        found: list[Current | None] = []
        moved: list[Key] = []
        for number, change in enumerate(changes, 1):
            if self._trusting and change.expect == 0:
                found.append(None)
                continue
            row = self._connection.execute(
                "SELECT rid, version, seq, live, date FROM resource WHERE type = ? AND id = ?",
                (change.type, change.id),
            ).fetchone()
            if change.reindexes and (row is None or row[1] != change.version):
                row = None
            elif (row[1] if row else 0) != change.expect:
                moved.append(Key(change.type, change.id))
            found.append(Current(*row) if row else None)
            if number % CHECKED == 0:
                await asyncio.sleep(0)
        if moved:
            raise Stale(tuple(moved))
        return found

    def _queue(self, change: PreparedChange, current: Current | None) -> int:
        rows = self._rows
        seq = self.next_seq
        self.next_seq += 1
        live, date = int(change.live), change.rows.date
        old = NO_ROWS
        if current is None:
            rid = self.next_rid
            self.next_rid += 1
            rows["resource"].append(
                (rid, change.type, change.id, change.version, seq, change.updated, date, live)
            )
        else:
            rid = current.rid
            rows["moved"].append((change.version, seq, change.updated, date, live, rid))
            rows["until"].append((seq, current.seq))
            old = self._old_rows(change.type, current)
        rows["version"].append(
            (seq, rid, change.version, change.updated, change.method, change.split, change.frame)
        )
        self._index(rid, old, change.rows)
        self._counts[change.type] += live - (current.live if current else 0)
        return seq

    def _reindex(self, change: PreparedChange, current: Current | None) -> int:
        """Puts every row of the version anew; 0 if it is no longer current."""
        if current is None or not current.live:
            return 0
        rows, rid, new = self._rows, current.rid, change.rows
        old = self._old_rows(change.type, current)
        rows["reframe"].append((change.split, change.frame, current.seq))
        if current.date != new.date:
            rows["redate"].append((new.date, rid))
        rows["unpost"] += [(h, s, old.date, rid) for h, s in old.postings]
        rows["unpost"] += [(h, s, new.date, rid) for h, s in new.postings]
        rows["unstring"] += [(h, text, rid) for h, text in old.strings | new.strings]
        rows["unspan"] += [(h, s, lo, rid, hi) for h, s, lo, hi in old.spans | new.spans]
        self._index(rid, NO_ROWS, new)
        return current.seq

    def _old_rows(self, type_: str, current: Current) -> Rows:
        if not current.live:
            return NO_ROWS
        split, frame = self._connection.execute(
            "SELECT split, frame FROM version WHERE seq = ?", (current.seq,)
        ).fetchone()
        return self._keys.rows(type_, unpack(self._codec.open(frame)[split:]))

    def _index(self, rid: int, old: Rows, new: Rows) -> None:
        rows, date = self._rows, new.date
        if old is NO_ROWS:
            rows["posting"] += [(h, s, date, rid) for h, s in new.postings]
            rows["string"] += [(h, text, rid) for h, text in new.strings]
            rows["span"] += [(h, s, lo, hi, rid) for h, s, lo, hi in new.spans]
            return
        same = new.postings & old.postings if old.date == date else set()
        rows["unpost"] += [(h, s, old.date, rid) for h, s in old.postings - same]
        rows["posting"] += [(h, s, date, rid) for h, s in new.postings - same]
        rows["unstring"] += [(h, text, rid) for h, text in old.strings - new.strings]
        rows["string"] += [(h, text, rid) for h, text in new.strings - old.strings]
        rows["unspan"] += [(h, s, lo, rid, hi) for h, s, lo, hi in old.spans - new.spans]
        rows["span"] += [(h, s, lo, hi, rid) for h, s, lo, hi in new.spans - old.spans]

    def _discard(self) -> None:
        for rows in self._rows.values():
            rows.clear()
        self._counts.clear()

    async def flush(self) -> None:
        """Writes the queued rows."""
        for name, rows in self._rows.items():
            if not rows:
                continue
            statement = STATEMENTS[name]
            for start in range(0, len(rows), WRITTEN):
                self._connection.executemany(statement, rows[start : start + WRITTEN])
                if start + WRITTEN < len(rows):
                    await asyncio.sleep(0)
            rows.clear()
        counts = [(type_, n) for type_, n in self._counts.items() if n]
        if counts:
            self._connection.executemany(_COUNT, counts)
        self._counts.clear()
        self._touched.clear()

    # --- ledger ---------------------------------------------------------------------

    def _dubious(self, writes: tuple[LedgerWrite, ...]) -> tuple[LedgerWrite, ...]:
        """Those that cannot be written without a look at what is there."""
        if not self._trusting:
            return writes
        return tuple([write for write in writes if write.fresh is None])

    def _queue_fresh(self, writes: tuple[LedgerWrite, ...]) -> None:
        self._rows["ledger"] += [
            (write.kind, write.key, write.fresh, write.expires)
            for write in writes
            if write.fresh is not None
        ]

    def _revision(self, kind: str, key: str) -> int:
        row = self._connection.execute(
            "SELECT revision FROM ledger WHERE kind = ? AND key = ?"
            " AND (expires IS NULL OR expires > ?)",
            (kind, key, self._now()),
        ).fetchone()
        return row[0] if row else 0

    def _check_ledger(self, writes: Iterable[LedgerWrite]) -> None:
        after: dict[tuple[str, str], int] = {}
        for write in writes:
            place = (write.kind, write.key)
            revision = after[place] if place in after else self._revision(*place)
            if write.expect not in (None, revision):
                raise Stale()
            after[place] = 0 if write.value is None else revision + 1

    def _write_ledger(self, writes: Iterable[LedgerWrite]) -> None:
        for write in writes:
            if write.value is None:
                self._connection.execute(
                    "DELETE FROM ledger WHERE kind = ? AND key = ?", (write.kind, write.key)
                )
                continue
            revision = self._revision(write.kind, write.key) + 1
            self._connection.execute(
                "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?)",
                (
                    write.kind,
                    write.key,
                    write.fresh or msgspec.json.encode(write.value),
                    revision,
                    write.expires,
                ),
            )

    async def follow(self, most: int) -> int:
        """Reads further versions into the index of words; how many there were."""
        await self.flush()
        return await text.follow(self._connection, self._codec, most)

    def expire(self, now: float) -> int:
        return self._connection.execute("DELETE FROM ledger WHERE expires <= ?", (now,)).rowcount
