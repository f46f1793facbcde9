"""Erasing: removing documents for good, in one transaction.

https://www.mongodb.com/docs/manual/reference/command/compact/ says what becomes of the space.
The replication log of the servers keeps what was written until it rolls over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from fhir_server.model.resource import Key
from fhir_server.store.base import Erased, EraseSet, Erasure, Stale
from fhir_server.store.mongo.documents import OLD, Document, Row, name
from fhir_server.store.mongo.group import count
from fhir_server.store.mongo.ledger import MongoLedger
from fhir_server.store.mongo.schema import Database
from fhir_server.store.mongo.tables import Tables

MAY_BE_REFUSED = frozenset({13, 59, 115, 20})
"""Unauthorized, CommandNotFound, CommandNotSupported, IllegalOperation (a router)."""


class Erasing:
    """Within a transaction that has taken the counter."""

    def __init__(self, tables: Tables, session: AsyncClientSession) -> None:
        self._tables = tables
        self._session = session

    async def erase(self, erase_set: EraseSet, ledger: MongoLedger) -> Erased:
        """Raises Stale and leaves the transaction to be given up."""
        current = await self._current(e.key for e in erase_set.erasures)
        moved = [
            e.key
            for e in erase_set.erasures
            if e.expect != current.get(name(e.key), {}).get("v", 0)
        ]
        if moved:
            raise Stale(tuple(moved))
        rows = ledger.writes(self._session)
        await rows.look(erase_set.ledger)
        rows.check(erase_set.ledger)
        rows.add(erase_set.ledger)
        gone = [await self._erase(e, current.get(name(e.key))) for e in erase_set.erasures]
        await rows.flush()
        return Erased(tuple(gone))

    async def _current(self, keys: Iterable[Key]) -> dict[str, Document]:
        wanted = {"_id": {"$in": [name(key) for key in keys]}}
        fields = {"v": 1, "q": 1, "u": 1, "y": 1}
        found = self._tables.resource.find(wanted, fields, session=self._session)
        return {document["_id"]: document async for document in found}

    async def _erase(self, erasure: Erasure, newest: Document | None) -> int:
        """The number of versions that went."""
        if newest is None:
            return 0
        where: Document = {"o": newest["_id"]}
        if erasure.versions is not None:
            where["v"] = {"$in": list(erasure.versions)}
        gone = (await self._tables.version.delete_many(where, session=self._session)).deleted_count
        if erasure.versions is not None:
            await self._join(newest)
            return gone
        await self._tables.resource.delete_one({"_id": newest["_id"]}, session=self._session)
        if "y" in newest:
            await count(self._tables, self._session, {newest["y"]: -1}, {})
        return gone + 1

    async def _join(self, newest: Document) -> None:
        """A version that stays is current until the next one that stays."""
        fields = {"v": 1, "q": 1, "u": 1, "e": 1}
        found = self._tables.version.find(
            {"o": newest["_id"]}, fields, session=self._session, hint="o_v"
        )
        following, changes = newest, list[Any]()
        async for old in found.sort("v", -1):
            if old["e"] != following["q"]:
                until = {"e": following["q"], "w": following["u"]}
                changes.append(UpdateOne({"_id": old["_id"]}, {"$set": until}))
            following = old
        if changes:
            await self._tables.version.bulk_write(changes, session=self._session)


async def formerly(tables: Tables, patient: str) -> dict[Key, tuple[int, ...]]:
    """The superseded versions in a patient's compartment, by looking at every one."""
    found: dict[Key, list[int]] = {}
    needle = patient.encode()
    async for document in tables.version.find({}, OLD, hint="_id_"):
        row = Row(document, tables.codec)
        if needle in row.raw and patient in row.values.patients:
            found.setdefault(row.key, []).append(document["v"])
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


async def scrub(database: Database) -> bool:
    """Gives back the space of what was removed, where the server lets this program."""
    for collection in ("resource", "version", "ledger"):
        try:
            await database.command("compact", collection)
        except OperationFailure as error:
            if error.code not in MAY_BE_REFUSED:
                raise
    return True
