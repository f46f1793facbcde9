"""Moving a MongoDB database: read as of one point, or filled from elsewhere.

What is written is named by its place (``_id``), so that a batch that is written again after a
kill changes nothing. A server refuses the database until the copy has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from pymongo import AsyncMongoClient, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from fhir_server.search.values import DATE_MIN
from fhir_server.store.codec import unpack
from fhir_server.store.erase_log import KIND as ERASED
from fhir_server.store.ledger import LedgerWrite, Row
from fhir_server.store.mongo import documents, ledger
from fhir_server.store.mongo.documents import OLD, VERSION, Document, indexed, name
from fhir_server.store.mongo.failing import answering
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.opening import (
    connect,
    database_name,
    durable,
    require_transactions,
)
from fhir_server.store.mongo.schema import COPYING as MARK
from fhir_server.store.mongo.schema import MIGRATIONS, Database, migrate, schema_version, tables
from fhir_server.store.mongo.tables import Tables
from fhir_server.store.moving import Mark, MoveError, Point, Version

SPAN: Final = 500
"""Positions of the change feed that are read at once."""
COUNTER: Final = {"_id": "counter"}
_OLD: Final = {**OLD, "e": 1, "w": 1}


class MongoSide:
    """``session``: in which the ledger is read."""

    def __init__(
        self, client: AsyncMongoClient[Document], database: Database, known: Tables
    ) -> None:
        self._client = client
        self.database = database
        self.tables = known
        self.session: AsyncClientSession | None = None

    async def versions(self, since: int, point: Point) -> AsyncIterator[list[Version]]:
        while since < point.seq:
            upto = min(since + SPAN, point.seq)
            span = {"$gt": since, "$lte": upto}
            with answering():
                # Superseded ones last: a version may move there in between, never back.
                found = await self.tables.resource.find({"q": span}, VERSION, hint="q").to_list()
                old = await self.tables.version.find({"_id": span}, _OLD, hint="_id_").to_list()
            known = {int(document["q"]): document for document in (*found, *old)}
            if known:
                yield [self._version(known[seq], point.seq) for seq in sorted(known)]
            since = upto

    def _version(self, document: Document, upto: int) -> Version:
        row = documents.Row(document, self.tables.codec)
        until, closed = int(document.get("e", 0)), int(document.get("w", 0))
        if until > upto:
            until, closed = 0, 0
        numbers = int(document["q"]), row.rid, row.key, int(document["v"]), row.updated
        return Version(*numbers, document["m"], until, closed, int(document["l"]), row.raw)

    async def rows(self) -> AsyncIterator[Row]:
        with answering():
            found = self.database.ledger.find({}, session=self.session)
            async for document in found.sort("_id", 1):
                yield ledger.row_of(document)

    async def close(self) -> None:
        if self.session is not None:
            await self.session.end_session()
        await self._client.close()


class MongoSource(MongoSide):
    async def point(self) -> Point:
        """The ledger that is read afterwards is of the same moment."""
        with answering():
            if self.session is not None:
                await self.session.end_session()
            self.session = self._client.start_session(snapshot=True)
            counter = await self.tables.meta.find_one(COUNTER, session=self.session) or {}
            secret = await self.tables.meta.find_one({"_id": "secret"}) or {}
            kind = {"$gte": ledger.name_of(ERASED, ""), "$lt": ledger.name_of(ERASED, "\uffff")}
            rows = self.database.ledger
            erased = len(await rows.find({"_id": kind}, {"_id": 1}, session=self.session).to_list())
        identity = hashlib.sha256(bytes(secret["value"])).hexdigest()
        return Point(identity, int(counter["seq"]), int(counter["rid"]), erased)


class MongoTarget(MongoSide):
    async def mark(self) -> Mark | None:
        with answering():
            found = await self.tables.meta.find_one(MARK)
            if found is not None:
                mark = bytes(found["value"])
                return msgspec.json.decode(mark, type=Mark) if mark else None
            for rows in (self.tables.resource, self.tables.version, self.database.ledger):
                if await rows.find_one({}, {"_id": 1}) is not None:
                    raise MoveError("the target is not empty: a copy does not overwrite")
        return None

    async def clear(self) -> None:
        with answering():
            await self._keep(b"")
            for rows in (self.tables.resource, self.tables.version, self.database.ledger):
                await rows.delete_many({})

    async def _keep(self, mark: bytes) -> None:
        await self.tables.meta.replace_one(MARK, {**MARK, "value": mark}, upsert=True)

    async def add_rows(self, rows: list[Row]) -> None:
        made = [
            ledger.document_of(LedgerWrite(r.kind, r.key, r.value, expires=r.expires), r.revision)
            for r in rows
        ]
        with answering():
            await self.database.ledger.insert_many(made)

    async def begin(self, mark: Mark) -> None:
        with answering():
            await self._keep(msgspec.json.encode(mark))

    async def add(self, versions: list[Version], mark: Mark) -> None:
        old = [self._superseded(v) for v in versions if v.until]
        new = [self._current(v) for v in versions if not v.until]
        with answering():
            for rows, made in ((self.tables.version, old), (self.tables.resource, new)):
                if made:
                    await rows.bulk_write(
                        [ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in made],
                        ordered=False,
                    )
            await self._keep(msgspec.json.encode(mark))

    def _current(self, v: Version) -> Document:
        type_, values = v.key.type, unpack(v.raw[v.split :]) if v.live else None
        document: Document = {"_id": name(v.key), "t": type_, **_numbers(v)}
        if v.live:
            document["y"] = type_
        body, codec = v.raw[: v.split], self.tables.codec
        document.update(indexed(type_, values, body, self.tables.keys, codec))
        return document | {"l": v.split, "b": codec.close(v.raw)}

    def _superseded(self, v: Version) -> Document:
        date = unpack(v.raw[v.split :]).date if v.raw else DATE_MIN
        return {
            "_id": v.seq,
            "o": name(v.key),
            "t": v.key.type,
            **_numbers(v),
            "d": date,
            "l": v.split,
            "b": self.tables.codec.close(v.raw),
            "e": v.until,
            "w": v.closed,
        }

    async def end(self, point: Point, live: dict[str, int]) -> None:
        numbers: dict[str, Any] = {"seq": point.seq, "rid": point.rid, "live": live}
        with answering():
            await self.tables.meta.update_one(COUNTER, {"$set": numbers})
            await self.tables.meta.delete_one(MARK)


def _numbers(v: Version) -> Document:
    return {"n": v.rid, "v": v.version, "q": v.seq, "u": v.updated, "m": v.method}


async def _database(url: str) -> tuple[AsyncMongoClient[Document], Database]:
    client = connect(url)
    try:
        with answering():
            await require_transactions(client)
            return client, durable(client, database_name(url))
    except BaseException:
        await client.close()
        raise


async def open_source(url: str) -> MongoSource:
    """Raises MoveError, Unavailable."""
    client, database = await _database(url)
    try:
        with answering():
            if await schema_version(database) != len(MIGRATIONS):
                raise MoveError("the source is empty or of an older program: start it once")
            return MongoSource(
                client, database, await tables(database, Lines.of(client, url, database.name))
            )
    except BaseException:
        await client.close()
        raise


async def open_target(url: str) -> MongoTarget:
    """Raises Unavailable: a newer schema, an index that differs."""
    client, database = await _database(url)
    try:
        with answering():
            await migrate(database)
            return MongoTarget(
                client, database, await tables(database, Lines.of(client, url, database.name))
            )
    except BaseException:
        await client.close()
        raise
