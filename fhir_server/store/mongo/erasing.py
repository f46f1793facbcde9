"""Erasing: removing documents for good, in one transaction.

https://www.mongodb.com/docs/manual/reference/command/compact/ says what becomes of the space.
The replication log of the servers keeps what was written until it rolls over.
"""

from __future__ import annotations

from collections.abc import Iterable

from pymongo.errors import OperationFailure

from fhir_server.model.resource import Key
from fhir_server.store.base import Erased, EraseSet, Erasure, Stale
from fhir_server.store.mongo.documents import OLD, Document, Row, name
from fhir_server.store.mongo.group import count
from fhir_server.store.mongo.ledger import MongoLedger
from fhir_server.store.mongo.schema import Database
from fhir_server.store.mongo.sessions import Session, all_found, put
from fhir_server.store.mongo.tables import Tables

MAY_BE_REFUSED = frozenset({13, 59, 115, 20})
"""Unauthorized, CommandNotFound, CommandNotSupported, IllegalOperation (a router)."""


class Erasing:
    """Within a transaction that has taken the counter."""

    def __init__(self, session: Session) -> None:
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
        command = {"find": "resource", "filter": wanted, "projection": fields}
        return {d["_id"]: d for d in await all_found(self._session, command)}

    async def _erase(self, erasure: Erasure, newest: Document | None) -> int:
        """The number of versions that went."""
        if newest is None:
            return 0
        where: Document = {"o": newest["_id"]}
        if erasure.versions is not None:
            where["v"] = {"$in": list(erasure.versions)}
        gone = await self._delete("version", where, 0)
        if erasure.versions is not None:
            await self._join(newest)
            return gone
        await self._delete("resource", {"_id": newest["_id"]}, 1)
        if "y" in newest:
            await count(self._session, {newest["y"]: -1}, {})
        return gone + 1

    async def _delete(self, collection: str, where: Document, limit: int) -> int:
        """How many went. ``limit`` 0: all."""
        command = {"delete": collection, "deletes": [{"q": where, "limit": limit}]}
        return int((await self._session.run(command))["n"])

    async def _join(self, newest: Document) -> None:
        """A version that stays is current until the next one that stays."""
        fields = {"v": 1, "q": 1, "u": 1, "e": 1}
        command = {"find": "version", "filter": {"o": newest["_id"]}, "projection": fields}
        command |= {"sort": {"v": -1}, "hint": "o_v"}
        following, changes = newest, list[Document]()
        for old in await all_found(self._session, command):
            if old["e"] != following["q"]:
                until = {"e": following["q"], "w": following["u"]}
                changes.append({"q": {"_id": old["_id"]}, "u": {"$set": until}})
            following = old
        await put(self._session, {"update": "version"}, "updates", changes)


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
