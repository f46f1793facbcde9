"""The store on MongoDB: reads on snapshots, writes in transactions of this process's writer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from pymongo import AsyncMongoClient, UpdateOne
from pymongo.errors import ExecutionTimeout, OperationFailure

from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.explain import Trace
from fhir_server.search.plan import History, Search
from fhir_server.store.base import (
    ChangeSet,
    Committed,
    Erased,
    EraseSet,
    Page,
    Reindexed,
    Versions,
)
from fhir_server.store.mongo import history, search
from fhir_server.store.mongo.documents import VERSION, Document, Row, indexed, name, wanted
from fhir_server.store.mongo.erasing import formerly, scrub
from fhir_server.store.mongo.failing import SNAPSHOT_GONE, answering
from fhir_server.store.mongo.ledger import MongoLedger
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.loading import Loader
from fhir_server.store.mongo.presence import Presence
from fhir_server.store.mongo.schema import Database, tables, wrong_indexes
from fhir_server.store.mongo.sessions import Plain, Session, Snapshot, all_found, one_found
from fhir_server.store.mongo.tables import Tables, live, too_costly
from fhir_server.store.mongo.view import View
from fhir_server.store.mongo.wire import Line
from fhir_server.store.mongo.writer import Writer

T = TypeVar("T")


class MongoStore:
    """A ``Store`` on one database. Made by ``MongoStore.of``."""

    def __init__(
        self,
        client: AsyncMongoClient[Document],
        database: Database,
        tables: Tables,
        ledger: MongoLedger,
    ) -> None:
        self._client = client
        self._database = database
        self._tables = tables
        self._ledger = ledger
        self._plain = Plain(tables.lines)
        self._loader = Loader(self._plain, "resource", VERSION)
        self._writer = Writer(self._tables, self._ledger, Presence(database))

    @classmethod
    async def of(
        cls,
        client: AsyncMongoClient[Document],
        database: Database,
        lines: Lines,
        now: Callable[[], float] = time.time,
    ) -> MongoStore:
        """Over a database whose schema is up to date. ``now``: epoch seconds."""
        ledger = MongoLedger(database.ledger, Plain(lines), now)
        return cls(client, database, await tables(database, lines), ledger)

    @property
    def ledger(self) -> MongoLedger:
        return self._ledger

    async def _snapshot(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Reads at one point; once more if the database no longer has it."""
        lines = self._tables.lines

        async def read(line: Line) -> T:
            return await work(Snapshot(lines, line))

        with answering():
            try:
                return await lines.read(read)
            except OperationFailure as error:
                if error.code not in SNAPSHOT_GONE:
                    raise
            return await lines.read(read)

    async def run(self, wanted: Search, trace: Trace | None = None) -> Page:
        match wanted:
            case Search(
                scans=(plan.Scan(type_, plan.IdIn((id_,))),), after=None, includes=(), as_of=None
            ) if wanted.count and trace is None:
                return await self._read(Key(type_, id_), wanted)

        async def page(session: Session) -> Page:
            view = View(self._tables, session)
            view.trace = trace
            try:
                return await search.run(view, wanted)
            except ExecutionTimeout:
                if view.bounded:
                    raise
                raise too_costly() from None

        began = time.perf_counter_ns()
        found = await self._snapshot(page)
        if trace is not None:
            trace.step("page", actual=len(found.matches), since=began)
            if wanted.includes:
                trace.step("included", actual=len(found.included))
            if found.total is not None:
                trace.step("total", actual=found.total)
        return found

    async def _read(self, key: Key, wanted: Search) -> Page:
        (stored,) = await self.current([key])
        found = [] if stored is None or stored.deleted else [stored]
        return Page(found, total=None if wanted.total == "none" else len(found))

    async def current(self, keys: Sequence[Key]) -> list[Stored | None]:
        names = [wanted(*key) for key in keys]
        with answering():
            if len(names) == 1:
                one = await self._loader.get(names[0])
                found = [] if one is None else [one]
            else:
                where = {"_id": {"$in": names}}
                command = {"find": "resource", "filter": where, "projection": VERSION}
                found = await all_found(self._plain, command)
        there = {d["_id"]: Row(d, self._tables.codec).stored() for d in found}
        return [there.get(n) for n in names]

    async def version(self, key: Key, version: int) -> Stored | None:
        with answering():
            return await history.version(self._tables, key, version, self._plain)

    async def versions(self, wanted: History) -> Versions:
        return await self._snapshot(lambda session: history.versions(self._tables, wanted, session))

    async def apply(self, change_set: ChangeSet) -> Committed:
        return await self._writer.write(change_set)

    async def erase(self, erase_set: EraseSet) -> Erased:
        return await self._writer.erase(erase_set)

    async def scrub(self) -> bool:
        with answering():
            return await scrub(self._database)

    async def formerly(self, patient: str) -> dict[Key, tuple[int, ...]]:
        with answering():
            return await formerly(self._tables, patient)

    async def reindex(self, fresh: Sequence[Reindexed]) -> int:
        items = {name(item.key): item for item in fresh}
        writes: list[UpdateOne] = []
        with answering():
            found = self._tables.resource.find({"_id": {"$in": list(items)}})
            async for there in found:
                renewed = self._renewed(there, items[there["_id"]])
                if renewed is not None:
                    at = {"_id": there["_id"], "v": there["v"], "y": there["t"]}
                    writes.append(UpdateOne(at, {"$set": renewed}))
            if not writes:
                return 0
            return (await self._tables.resource.bulk_write(writes, ordered=False)).matched_count

    def _renewed(self, there: Document, item: Reindexed) -> Document | None:
        """The fields as they should be; None if they are, or the version is not current."""
        if "y" not in there or there["v"] != item.version:
            return None
        row, codec = Row(there, self._tables.codec), self._tables.codec
        fields = indexed(item.key.type, item.values, row.body, self._tables.keys, codec)
        same = all(there[field] == fields[field] for field in ("d", "k", "s", "r"))
        return None if same and row.values == item.values else fields

    async def changes(self, since: int) -> AsyncIterator[Stored]:
        last = await self.position()
        with answering():
            async for stored in history.feed(self._tables, max(since, 0), last, self._plain):
                yield stored

    async def position(self) -> int:
        where = {"_id": "counter"}
        command = {"find": "meta", "filter": where, "projection": {"seq": 1}}
        with answering():
            return int((await one_found(self._plain, command) or {})["seq"])

    async def counts(self) -> dict[str, int]:
        with answering():
            return {type_: int(n) for type_, n in (await live(self._plain)).items() if n}

    async def trouble(self) -> str | None:
        try:
            with answering():
                return "; ".join(await wrong_indexes(self._database)) or None
        except Unavailable as problem:
            return str(problem)

    async def close(self) -> None:
        await self._writer.close()
        await self._tables.lines.close()
        await self._client.close()
