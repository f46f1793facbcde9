"""The writer: one per data directory; what arrives while a commit is under way forms the
next group.

Statements run on the loop, COMMIT in a thread (it waits for the disk and releases the
interpreter), acknowledgements follow it. After an error of the database nothing of the
group is acknowledged and the database is opened anew: a failed fsync is never retried.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from fhir_server.model.problem import Problem, Unavailable
from fhir_server.store.base import Committed, Stale
from fhir_server.store.ledger import Row
from fhir_server.store.sqlite import dictionaries, schema, wal
from fhir_server.store.sqlite.erasing import scrub, takes_long
from fhir_server.store.sqlite.follower import Follower
from fhir_server.store.sqlite.group import Group
from fhir_server.store.sqlite.keys import Keys
from fhir_server.store.sqlite.prepared import PreparedSet

log = logging.getLogger(__name__)

MOST_SETS: Final = 256
MOST_CHANGES: Final = 2048
"""A group takes no further set beyond these; one larger set is a group of its own."""
PATIENCE: Final = 0.002
"""Seconds that a group waits at most for those who are expected to join it."""

QUIET_SECONDS: Final = 20.0
"""Without a change to the record; then a rewrite of the database holds up nobody who is there."""
PUT_OFF_SECONDS: Final = 86_400.0
"""How long a rewrite waits for a quiet moment."""
BUSY_SECONDS: Final = 5.0
"""How long the writer waits for a program that is not of this server and holds the database."""
TROUBLES: Final = {
    "SQLITE_FULL": "the disk is full: reads go on, writes are refused",
    "SQLITE_BUSY": "another program holds the database: reads go on, writes are refused",
}
"""What is said of an error of SQLite."""


class Result(NamedTuple):
    """``expired``: ledger rows removed; ``erased``: versions, of each erasure. ``scrubbed``:
    whether nothing is left of what was deleted, where that was asked for. ``followed``:
    versions read into the index of words.
    """

    committed: Committed
    expired: int = 0
    erased: tuple[int, ...] = ()
    scrubbed: bool = False
    followed: int = 0


class KeptRow(NamedTuple):
    """A ledger row as its columns, and as it was read."""

    columns: tuple[Any, ...]
    row: Row


Kept = dict[tuple[str, str], KeptRow | None]
"""Ledger rows by kind and key, as they are committed; None: there is no such row."""


class Writer(Protocol):
    """The way to the one writer of a data directory, from any process."""

    @property
    def kept(self) -> Kept | None:
        """Where ledger rows that have been read may be kept: the writer takes out what it
        changes. None outside of its process, which alone hears of every change.
        """
        ...

    @property
    def trouble(self) -> str | None:
        """Why the last write failed; None once one has succeeded again."""
        ...

    async def write(self, prepared: PreparedSet) -> Result:
        """Durable when it returns. Raises Stale, or Unavailable when it is not known."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Waiting:
    prepared: PreparedSet
    done: asyncio.Future[Result]
    refused: bool = False


class LocalWriter:
    """The writer in this process. ``now``: epoch seconds, for ledger expiry."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._thread = ThreadPoolExecutor(1, "commit")
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._expected = 1
        self._changed = -QUIET_SECONDS
        self._put_off: float | None = None
        self._complete: asyncio.Future[None] | None = None
        self.kept: Kept = {}
        self.trouble: str | None = None
        self._follower = Follower(self._follow)
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        marked = wal.commits(self._path.with_name(self._path.name + "-wal"))
        connection = schema.connect(self._path)
        schema.schema_version(connection)
        wal.recovered(self._path, marked, connection)
        schema.migrate(connection)
        dictionaries.record(connection)
        self._keys = Keys(schema.secret(connection))
        self._codec = dictionaries.load(connection)
        self._rid = schema.last(connection, schema.RID)
        self._seq = schema.last(connection, schema.SEQ)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    async def write(self, prepared: PreparedSet) -> Result:
        if self._closed:
            raise Unavailable("the store is closed")
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(prepared, done))
        if self._complete is not None and len(self._waiting) >= self._expected:
            _finish(self._complete)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await done

    def start(self) -> None:
        """Begins what the writer does by itself."""
        self._follower.wake()

    async def _follow(self, most: int) -> int:
        return (await self.write(PreparedSet((), follow=most))).followed

    async def _work(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < self._expected:
                    await self._gather()
                group = self._take()
                await self._commit_group(group)
                self._expected = min(len(group) + len(self._waiting), MOST_SETS)
        finally:
            if self._waiting and not self._closed:
                self._worker = asyncio.create_task(self._work())

    async def _gather(self) -> None:
        """Waits for who was answered last: a client that writes often writes again at once,
        and a commit costs about the same for one set as for many. Who does not come is not
        waited for again.
        """
        loop = asyncio.get_running_loop()
        self._complete = loop.create_future()
        timer = loop.call_later(PATIENCE, _finish, self._complete)
        try:
            await self._complete
        finally:
            timer.cancel()
            self._complete = None

    def _take(self) -> list[_Waiting]:
        taken, changes = 0, 0
        for waiting in self._waiting[:MOST_SETS]:
            changes += len(waiting.prepared.changes) + len(waiting.prepared.erasures)
            if taken and changes > MOST_CHANGES:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _commit_group(self, waiting: list[_Waiting]) -> None:
        try:
            await self._begin()
            try:
                group, results = await self._written(waiting, trusting=True)
            except sqlite3.IntegrityError:
                self._connection.execute("ROLLBACK")
                await self._begin()
                group, results = await self._written(waiting, trusting=False)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._connection.execute, "COMMIT")
        except sqlite3.Error as error:
            self._fail(waiting, error)
            return
        except BaseException:
            self._fail(waiting, RuntimeError("the writer was interrupted"))
            raise
        if group.next_seq - 1 > self._seq:
            self._changed = time.monotonic()
        if group.next_seq - 1 > self._seq or any(i.prepared.follow < 0 for i in waiting):
            self._follower.wake()
        self._rid, self._seq, self.trouble = group.next_rid - 1, group.next_seq - 1, None
        # What takes long is last, so that nobody waits for it.
        for item, result in sorted(results, key=lambda one: one[0].prepared.scrub):
            for write in item.prepared.ledger:
                self.kept.pop((write.kind, write.key), None)
            if item.prepared.scrub:
                result = result._replace(scrubbed=await self._scrub())
            if not item.done.done():
                item.done.set_result(result)

    async def _written(
        self, waiting: list[_Waiting], *, trusting: bool
    ) -> tuple[Group, list[tuple[_Waiting, Result]]]:
        """The group, written but not committed; the results of those that are in it."""
        numbers = self._rid + 1, self._seq + 1
        group = Group(
            self._connection, self._keys, self._codec, numbers, self._now, trusting=trusting
        )
        results: list[tuple[_Waiting, Result]] = []
        for item in waiting:
            if item.refused:
                continue
            result = await self._add(group, item)
            if result is not None:
                results.append((item, result))
        await group.flush()
        return group, results

    def _quiet(self) -> bool:
        """Is it a moment at which writes may be held up? After a day every one is."""
        now = time.monotonic()
        if self._put_off is None:
            self._put_off = now
        return now > self._changed + QUIET_SECONDS or now > self._put_off + PUT_OFF_SECONDS

    async def _scrub(self) -> bool:
        if takes_long(self._connection) and not self._quiet():
            return False
        self._put_off = None
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, scrub, self._connection)
        except sqlite3.Error as error:
            log.error("scrub failed: %s", error)
            return False

    async def _begin(self) -> None:
        """Others go on while a foreign program holds the database."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if _name(error) != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)

    async def _add(self, group: Group, item: _Waiting) -> Result | None:
        """Stale and refused sets are answered at once: they have written nothing."""
        try:
            if item.prepared.erasures:
                return Result(Committed(()), erased=await group.erase(item.prepared))
            committed = await group.add(item.prepared)
        except (Stale, Problem) as refusal:
            item.refused = True
            if not item.done.done():
                item.done.set_exception(refusal)
            return None
        expired = 0
        if item.prepared.expire is not None:
            expired = group.expire(item.prepared.expire)
        followed = await group.follow(item.prepared.follow) if item.prepared.follow else 0
        return Result(committed, expired, followed=followed)

    def _fail(self, waiting: list[_Waiting], error: BaseException) -> None:
        """Nobody of the group is acknowledged; the database is opened anew, unless it is not
        this program's turn.
        """
        log.error("commit failed: %s", error)
        self.kept.clear()
        text = TROUBLES.get(_name(error), "the database cannot be written")
        self.trouble = text
        for item in waiting:
            if not item.done.done():
                item.done.set_exception(Unavailable(text, headers={"Retry-After": "5"}))
        if self._connection.in_transaction or _name(error) != "SQLITE_BUSY":
            self._reopen()

    def _reopen(self) -> None:
        try:
            self._connection.close()
        except sqlite3.Error as error:
            log.error("close failed: %s", error)
        try:
            self._connection = self._open()
        except (sqlite3.Error, Problem, OSError) as error:
            log.error("the database cannot be opened: %s", error)

    async def close(self) -> None:
        self._closed = True
        await self._follower.stop()
        if self._worker is not None:
            await asyncio.wait([self._worker])
        self._connection.close()
        self._thread.shutdown()


def _finish(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_result(None)


def _name(error: BaseException) -> str:
    """What SQLite calls the error, without its details (``SQLITE_BUSY_RECOVERY``)."""
    name: str = getattr(error, "sqlite_errorname", "")
    return "_".join(name.split("_")[:2])
