"""The one writer of this process: change sets that arrive while a transaction is under way
form the next one.

Every transaction begins by taking the counter document, so all writers of all processes are
in one order, which is that of the change feed: whoever comes second is turned away before it
has done anything and tries again. So no condition (``Guard``) can be overtaken between its
look and its commit, and no further locks are needed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias, TypeVar

from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

from fhir_server.model.problem import Problem, Unavailable
from fhir_server.store.base import Change, ChangeSet, Committed, Erased, EraseSet, Stale
from fhir_server.store.mongo.documents import Document, made
from fhir_server.store.mongo.erasing import Erasing
from fhir_server.store.mongo.failing import RETRY, Uncertain, answering, transient, uncertain
from fhir_server.store.mongo.group import Group, PreparedSet, Result, take
from fhir_server.store.mongo.ledger import MongoLedger
from fhir_server.store.mongo.presence import Presence
from fhir_server.store.mongo.sessions import Session, Transaction, Writing
from fhir_server.store.mongo.tables import Tables
from fhir_server.store.mongo.wire import Line

T = TypeVar("T")
Work: TypeAlias = Callable[[Session, Document], Awaitable[T]]
"""What a transaction does after it has taken the counter."""

DURABLE: Final = WriteConcern("majority", j=True)
SLICE: Final = 64
"""Changes that are prepared before others get a turn on the loop."""
MOST: Final = 500
"""Changes of one transaction, unless a single set has more."""
PATIENCE: Final = 10.0
"""Seconds after which a transaction is given up."""


class Waiting(NamedTuple):
    prepared: PreparedSet
    done: asyncio.Future[Committed]


class Writer:
    """Not for several event loops."""

    def __init__(
        self,
        tables: Tables,
        ledger: MongoLedger,
        presence: Presence,
    ) -> None:
        self._tables = tables
        self._ledger = ledger
        self._presence = presence
        self._session: Writing | None = None
        self._alone = asyncio.Lock()
        self._waiting: deque[Waiting] = deque()
        self._task: asyncio.Task[None] | None = None

    async def write(self, change_set: ChangeSet) -> Committed:
        """Commits a set durably; raises Stale, Uncertain or another Problem."""
        prepared = await self._prepare(change_set)
        done: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(prepared, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        # A request that is given up does not take back what others wait for.
        return await asyncio.shield(done)

    async def _prepare(self, change_set: ChangeSet) -> PreparedSet:
        documents: list[tuple[Change, Document]] = []
        for number, change in enumerate(change_set.changes, 1):
            documents.append((change, made(change, self._tables.keys, self._tables.codec)))
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return PreparedSet(tuple(documents), change_set.guards, change_set.ledger)

    async def close(self) -> None:
        """Waits for what is under way."""
        while self._task is not None:
            await self._task
        if self._session is not None:
            with suppress(PyMongoError):
                await self._presence.leave()

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._settle(self._next())
        finally:
            self._task = asyncio.create_task(self._run()) if self._waiting else None

    def _next(self) -> list[Waiting]:
        """What is committed together."""
        group = [self._waiting.popleft()]
        size = len(group[0].prepared.changes)
        while self._waiting:
            size += len(self._waiting[0].prepared.changes)
            if size > MOST:
                break
            group.append(self._waiting.popleft())
        return group

    async def _settle(self, group: list[Waiting]) -> None:
        """Answers each set of a group; if the group fails, its halves are tried."""
        try:
            with answering():
                results = await self._commit([waiting.prepared for waiting in group])
        except Exception as problem:
            if len(group) > 1 and not isinstance(problem, Uncertain):
                half = len(group) // 2
                try:
                    await self._settle(group[:half])
                finally:  # whatever becomes of some, nobody waits in vain
                    await self._settle(group[half:])
                return
            _answer(group, [problem] * len(group))
            if not isinstance(problem, Problem | Stale):
                raise
            return
        _answer(group, results)

    async def _commit(self, group: Sequence[PreparedSet]) -> list[Committed | Exception]:
        async def write(session: Session, counter: Document) -> list[Result]:
            transaction = Group(self._tables, self._ledger, session)
            transaction.starting_from(counter)
            return await transaction.write(group)

        return await self._transaction(write)

    async def erase(self, erase_set: EraseSet) -> Erased:
        """Raises Stale, Uncertain or another Problem."""

        async def erase(session: Session, _: Document) -> Erased:
            return await Erasing(session).erase(erase_set, self._ledger)

        with answering():
            return await self._transaction(erase)

    async def _transaction(self, work: Work[T]) -> T:
        """One transaction, tried until it commits, is refused or the time is over."""
        async with self._alone:
            beating = asyncio.create_task(self._presence.beat())
            try:
                return await self._tried(work)
            finally:
                beating.cancel()

    async def _tried(self, work: Work[T]) -> T:
        deadline = time.monotonic() + PATIENCE
        name, pause, results = os.urandom(12), 0.002, list[T]()
        while True:
            try:
                return await self._once(work, name, results, deadline)
            except PyMongoError as error:
                if not isinstance(error, OperationFailure):
                    self._session = None  # what is left of it is ended by whom it holds up
                if time.monotonic() > deadline:
                    raise _given_up(error) from error
                if not (transient(error) or isinstance(error, ConnectionFailure)):
                    raise
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 2, 0.2)

    async def _once(self, work: Work[T], name: bytes, results: list[T], deadline: float) -> T:
        session = self._session
        if session is None:
            session = self._session = Writing()
        await self._presence.announce(session.lsid)
        lines = self._tables.lines

        async def tried(line: Line) -> T:
            transaction = Transaction(lines, line, session)
            try:
                return await self._within(transaction, work, name, results, deadline)
            finally:
                await transaction.abort()

        return await lines.use(tried)

    async def _within(
        self,
        transaction: Transaction,
        work: Work[T],
        name: bytes,
        results: list[T],
        deadline: float,
    ) -> T:
        try:
            counter = await take(transaction, name)
        except PyMongoError as error:
            if transient(error):
                await transaction.abort()
                await self._presence.turned_away()
            raise
        if counter is not None:
            results.append(await work(transaction, counter))
            await _finish(transaction, deadline)
        return results[-1]


async def _finish(transaction: Transaction, deadline: float) -> None:
    """Commits, again while it is not known whether that was done."""
    while True:
        try:
            await transaction.commit()
            return
        except PyMongoError as error:
            if not uncertain(error) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


def _given_up(error: PyMongoError) -> Unavailable:
    if uncertain(error):
        return Uncertain("the database does not say whether it has stored this", headers=RETRY)
    return Unavailable("the database is too busy to write", headers=RETRY)


def _answer(group: list[Waiting], results: Sequence[Committed | Exception]) -> None:
    for waiting, result in zip(group, results, strict=True):
        if waiting.done.done():
            continue
        if isinstance(result, Exception):
            waiting.done.set_exception(result)
        else:
            waiting.done.set_result(result)
