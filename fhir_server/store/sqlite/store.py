"""The embedded store: reads on this loop, writes through the one writer."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from fhir_server.model.problem import BadRequest, Unavailable
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.explain import Trace
from fhir_server.search.plan import TOTAL_LIMIT, History, Search
from fhir_server.store.base import (
    ChangeSet,
    Committed,
    Erased,
    EraseSet,
    Page,
    Reindexed,
    Versions,
)
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite import dictionaries, schema, search
from fhir_server.store.sqlite.erasing import superseded
from fhir_server.store.sqlite.keys import FIRST, LAST, Keys, List
from fhir_server.store.sqlite.lane import Lane
from fhir_server.store.sqlite.ledger import SqliteLedger
from fhir_server.store.sqlite.prepared import (
    SLICE,
    PreparedChange,
    PreparedSet,
    prepare,
    prepare_reindexed,
)
from fhir_server.store.sqlite.rows import COLUMNS, FETCH_ONE, Budget, Exceeded, Row, holds_rows
from fhir_server.store.sqlite.text import ANEW, PIECE, Behind, holds_words
from fhir_server.store.sqlite.turns import Turns
from fhir_server.store.sqlite.view import View
from fhir_server.store.sqlite.writer import Writer

INLINE: Final = 20_000
"""Work units (about microseconds) of a search on the loop; a longer one goes to a thread."""
INLINE_SECONDS: Final = 0.05
"""Time on the loop after which it does, too: threads and other processes slow it down."""
CROWDED: Final = 2_000
"""The same for who has many searches in threads already: it may still ask what is cheap."""
THREADED: Final = 2_000_000
"""Work units after which a search is refused as too costly."""
THREADED_SECONDS: Final = 3.0
"""CPU of the thread after which it is, too: a unit may cost more than it should."""
CAUGHT_UP: Final = 2.0
"""Seconds that a search waits for the index of words to catch up."""
CHANGED: Final = 100_000
"""At most so many resources may have changed since the point of an ``as_of``."""

SCRUBS: Final = 5
SCRUB_PAUSE: Final = 1.0
"""Seconds; how often, and in what distance, the log is cut while searches read from it."""
PROBE_SECONDS: Final = 1.0
"""Between two looks whether what could not be written can be written again."""
PROBE: Final = {"filler": "0" * 32_768}
"""As large as what is usually written."""
ROOM: Final = 8_388_608
"""Bytes that must be free on the disk for all to be well."""

_JOIN: Final = " FROM version v CROSS JOIN resource r ON r.rid = v.rid WHERE "
_IN_TIME: Final = (
    "v.updated >= ? AND v.updated < ? AND (v.until IS NULL OR ? <"
    " (SELECT n.updated FROM version n WHERE n.seq = v.until))"
)
"""Of versions since a point, those that were current at some point of a range."""

_FEED: Final = "".join(("SELECT ", COLUMNS, _JOIN, "v.seq > ? AND v.seq <= ? ORDER BY v.seq"))
_HISTORY: Final = "".join(
    (
        "SELECT ",
        COLUMNS,
        _JOIN,
        _IN_TIME,
        " AND v.seq < ? AND ifnull(r.type = ?, 1) ORDER BY v.seq DESC LIMIT ?",
    )
)
_COUNT_HISTORY: Final = "".join(
    ("SELECT count(*) FROM (SELECT 1", _JOIN, _IN_TIME, " AND ifnull(r.type = ?, 1) LIMIT ?)")
)
_OLD: Final = "".join(
    (
        "SELECT ",
        COLUMNS,
        _JOIN,
        _IN_TIME,
        " AND v.rid = ? AND v.until IS NOT NULL AND v.version <= ? AND v.seq < ?"
        " ORDER BY v.version DESC LIMIT ?",
    )
)
_COUNT_OLD: Final = "".join(
    (
        "SELECT count(*) FROM version v WHERE ",
        _IN_TIME,
        " AND v.rid = ? AND v.until IS NOT NULL",
    )
)
_OVERLAY: Final = "".join(("SELECT ", COLUMNS, _JOIN, "v.until > ? AND v.seq <= ?"))


class Reader:
    """A read-only connection with what belongs to it; for one thread."""

    def __init__(self, path: Path) -> None:
        self.connection = schema.connect(path, readonly=True)
        schema.schema_version(self.connection)
        self.keys = Keys(schema.secret(self.connection))
        self.codec = dictionaries.load(self.connection)
        self._long: set[List] = set()

    def one(self, key: Key) -> Row | None:
        """The newest version, deletions included."""
        found = self.connection.execute(FETCH_ONE, key).fetchone()
        return None if found is None else Row(found, self.codec)

    def rows(self, sql: str, params: tuple[Any, ...]) -> list[Row]:
        return [Row(columns, self.codec) for columns in self.connection.execute(sql, params)]

    def number(self, sql: str) -> int:
        row = self.connection.execute(sql).fetchone()
        return int(row[0])

    def run(self, wanted: Search, budget: Budget, trace: Trace | None = None) -> Page:
        """One page of one snapshot."""
        self.connection.execute("BEGIN")
        try:
            view = View(self.connection, self.keys, self.codec, budget, self._long)
            view.trace = trace
            if wanted.as_of is not None:
                self._as_of(view, wanted.as_of, budget)
            return search.run(view, wanted)
        finally:
            self.connection.execute("COMMIT")

    def versions(self, history: History) -> Versions:
        since = history.since if history.since is not None else FIRST
        before = history.before if history.before is not None else LAST
        low, high = history.at if history.at is not None else (FIRST, LAST)
        time, count = (since, high, low), history.count
        if history.id is None or history.type is None:
            rows = self.rows(_HISTORY, (*time, before, history.type, count + 1))
            limit = TOTAL_LIMIT + 1 if history.count else LAST
            (found,) = self.connection.execute(
                _COUNT_HISTORY, (*time, history.type, limit)
            ).fetchone()
            return _versions(rows, count, found if found < limit else None)
        newest = self.one(Key(history.type, history.id))
        if newest is None:
            return Versions((), 0)
        older = self.rows(_OLD, (*time, newest.rid, LAST, before, count + 1))
        counted = self.connection.execute(_COUNT_OLD, (*time, newest.rid)).fetchone()
        listed = since <= newest.updated < high
        if listed and newest.columns[6] < before:
            older.insert(0, newest)
        return _versions(older, count, int(counted[0]) + listed)

    def _as_of(self, view: View, at: int, budget: Budget) -> None:
        """Hides what changed after ``at`` behind the versions that were current then."""
        changed = self.connection.execute(
            "SELECT DISTINCT rid FROM version WHERE seq > ? LIMIT ?", (at, CHANGED + 1)
        ).fetchall()
        if len(changed) > CHANGED:
            raise BadRequest("too much has changed since then: start anew", code="too-costly")
        budget.spend(20 * len(changed))
        view.hidden = frozenset(rid for (rid,) in changed)
        if view.hidden:
            for row in self.rows(_OVERLAY, (at, at)):
                if row.columns[7] != "DELETE":
                    dated = (*row.columns[:3], row.values.date, *row.columns[4:])
                    view.overlay[row.rid] = Row(dated, self.codec)


class SqliteStore:
    """A ``Store`` on one database file. ``now``: epoch seconds, for ledger expiry."""

    def __init__(
        self, path: Path, writer: Writer, now: Callable[[], float], lane: Lane | None = None
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = Reader(path)
        self._lane = lane or Lane()
        self._turns = Turns()
        self._local = threading.local()
        self._slow: list[Reader] = []
        self._ledger = SqliteLedger(self._reader.connection, writer, now)
        self._now = now
        self._probed = 0.0

    @property
    def ledger(self) -> SqliteLedger:
        return self._ledger

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        deadline = time.monotonic() + CAUGHT_UP
        while True:
            try:
                return await self._page(search, trace)
            except Behind:
                result = await self._writer.write(PreparedSet((), follow=PIECE))
                if not result.followed or time.monotonic() > deadline:
                    text = "the index of words is being made: try again later"
                    raise Unavailable(text, headers={"Retry-After": "10"}) from None

    async def _page(self, search: Search, trace: Trace | None) -> Page:
        if trace is not None:
            return await self._explained(search, trace)
        match search:
            case Search(
                scans=(plan.Scan(type_, plan.IdIn((id_,))),), after=None, includes=(), as_of=None
            ) if search.count:
                return self._read(Key(type_, id_), search)
        waiting = self._lane.mine
        if not waiting or not self._turns.remembers(search):
            most = max(CROWDED, INLINE // max(1, waiting))
            try:
                return await self._turns.run(partial(self._run_inline, search, most))
            except Exceeded:
                self._turns.remember(search)
        return await self._lane.run(self._run_slowly, search)

    async def _explained(self, search: Search, trace: Trace) -> Page:
        """As ``run``, slower by what is noted."""
        began = time.perf_counter_ns()
        try:
            page = self._reader.run(search, Budget(INLINE, inline=True), trace)
        except Exceeded:
            trace.step("too much work for the event loop: begun anew in a thread", since=began)
            page = await self._lane.run(self._run_slowly, search, trace)
        trace.step("page", actual=len(page.matches), since=began)
        if search.includes:
            trace.step("included", actual=len(page.included))
        if page.total is not None:
            trace.step("total", actual=page.total)
        return page

    def _read(self, key: Key, search: Search) -> Page:
        row = self._reader.one(key)
        found = [] if row is None or row.columns[7] == "DELETE" else [row.stored()]
        return Page(found, total=None if search.total == "none" else len(found))

    def _run_inline(self, search: Search, most: int) -> Page:
        return self._reader.run(search, Budget(most, inline=True, seconds=INLINE_SECONDS))

    def _run_slowly(self, search: Search, trace: Trace | None = None) -> Page:
        return self._own_reader().run(
            search, Budget(THREADED, inline=False, seconds=THREADED_SECONDS), trace
        )

    def _own_reader(self) -> Reader:
        """The reader of this thread."""
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = Reader(self._path)
            self._slow.append(reader)
        return reader

    async def current(self, keys: Sequence[Key]) -> list[Stored | None]:
        found: list[Stored | None] = []
        for number, key in enumerate(keys, 1):
            row = self._reader.one(key)
            found.append(None if row is None else row.stored())
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return found

    async def version(self, key: Key, version: int) -> Stored | None:
        row = self._reader.one(key)
        if row is None or row.columns[4] == version:
            return None if row is None else row.stored()
        old = self._reader.rows(_OLD, (FIRST, LAST, FIRST, row.rid, version, LAST, 1))
        found = next((r for r in old if r.columns[4] == version), None)
        return None if found is None else found.stored()

    async def versions(self, history: History) -> Versions:
        return await self._lane.run(self._versions, history, limited=False)

    def _versions(self, history: History) -> Versions:
        return self._own_reader().versions(history)

    async def apply(self, change_set: ChangeSet) -> Committed:
        reader = self._reader
        prepared = await prepare(change_set, reader.keys, reader.codec)
        return (await self._writer.write(prepared)).committed

    async def erase(self, erase_set: EraseSet) -> Erased:
        prepared = PreparedSet((), ledger=erase_set.ledger, erasures=erase_set.erasures)
        return Erased((await self._writer.write(prepared)).erased)

    async def scrub(self) -> bool:
        for _ in range(SCRUBS):
            if (await self._writer.write(PreparedSet((), scrub=True))).scrubbed:
                return True
            await asyncio.sleep(SCRUB_PAUSE)
        return False

    async def formerly(self, patient: str) -> dict[Key, tuple[int, ...]]:
        return await self._lane.run(self._formerly, patient, limited=False)

    def _formerly(self, patient: str) -> dict[Key, tuple[int, ...]]:
        reader, found = self._own_reader(), dict[Key, tuple[int, ...]]()
        for key, version in superseded(reader.connection, reader.codec, patient):
            found[key] = (*found.get(key, ()), version)
        return found

    async def reindex(self, fresh: Sequence[Reindexed]) -> int:
        reader, changes, lost = self._reader, list[PreparedChange](), 0
        for number, item in enumerate(fresh, 1):
            row = reader.one(item.key)
            if row is not None and not holds_words(reader.connection, reader.codec, row.rid):
                lost += 1
            if row is not None and row.columns[4] == item.version and row.columns[7] != "DELETE":
                change = prepare_reindexed(
                    item, row.raw[: row.columns[8]], reader.keys, reader.codec
                )
                same = row.values == item.values and row.columns[3] == change.rows.date
                if not (same and holds_rows(reader.connection, row.rid, change.rows)):
                    changes.append(change)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        if not changes and not lost:
            return 0
        follow = ANEW if lost else 0
        result = await self._writer.write(PreparedSet(tuple(changes), follow=follow))
        return max(sum(seq > 0 for seq in result.committed.seqs), lost)

    async def changes(self, since: int) -> AsyncIterator[Stored]:
        last, at = await self.position(), since
        while at < last:
            upto = min(at + 200, last)
            for row in self._reader.rows(_FEED, (at, upto)):
                yield row.stored()
            at = upto
            await asyncio.sleep(0)

    async def position(self) -> int:
        return schema.last(self._reader.connection, schema.SEQ)

    async def trouble(self) -> str | None:
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < ROOM:
            return "the disk is full: reads go on, writes are refused"
        found = self._writer.trouble
        if found is None or time.monotonic() < self._probed + PROBE_SECONDS:
            return found
        self._probed = time.monotonic()
        write = LedgerWrite("probe", "write", PROBE, expires=self._now())
        try:
            await self._writer.write(PreparedSet((), ledger=(write,)))
        except Unavailable as problem:
            return str(problem)
        return None

    async def counts(self) -> dict[str, int]:
        rows = self._reader.connection.execute("SELECT type, live FROM counter WHERE live > 0")
        return dict(rows.fetchall())

    async def close(self) -> None:
        """The writer's connection is the last, so that its log goes into the database file."""
        self._lane.close()
        for reader in (self._reader, *self._slow):
            try:
                reader.connection.close()
            except sqlite3.Error:
                continue
        await self._writer.close()


def _versions(found: list[Row], count: int, total: int | None) -> Versions:
    page = [row.stored() for row in found[:count]]
    more = page and len(found) > len(page)
    return Versions(page, total, page[-1].seq if more else None)
