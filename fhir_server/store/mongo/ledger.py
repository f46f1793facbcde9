"""The ledger in MongoDB: single rows without a transaction, sets of rows within one.

``_id`` is kind and key, ``c`` the value as JSON bytes, ``n`` the revision, ``x`` the expiry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from pymongo.errors import DuplicateKeyError

from fhir_server.store.base import Stale
from fhir_server.store.ledger import LedgerWrite, Row, Value
from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.failing import answering
from fhir_server.store.mongo.keys import behind
from fhir_server.store.mongo.loading import Loader
from fhir_server.store.mongo.sessions import Session, all_found, put, replaced
from fhir_server.store.mongo.tables import Collection

BETWEEN: Final = "\x1f"
"""Stands between kind and key, and in neither."""


def name_of(kind: str, key: str) -> str:
    return kind + BETWEEN + key


def row_of(document: Document) -> Row:
    kind, _, key = document["_id"].partition(BETWEEN)
    value: Value = msgspec.json.decode(document["c"])
    return Row(kind, key, value, document["n"], document["x"])


def document_of(write: LedgerWrite, revision: int) -> Document:
    return {
        "_id": name_of(write.kind, write.key),
        "n": revision,
        "x": write.expires,
        "c": write.fresh or msgspec.json.encode(write.value),
    }


class MongoLedger:
    """``now``: epoch seconds."""

    def __init__(
        self, rows: Collection, session: Session, now: Callable[[], float] = time.time
    ) -> None:
        self._rows = rows
        self._now = now
        self._session = session
        self._loader = Loader(session, "ledger")

    def writes(self, session: Session) -> LedgerWrites:
        """For one transaction."""
        return LedgerWrites(session, self._now)

    def _live(self) -> Document:
        return {"$or": [{"x": None}, {"x": {"$gt": self._now()}}]}

    async def insert_unique(
        self, kind: str, key: str, value: Value, expires: float | None = None
    ) -> bool:
        made = document_of(LedgerWrite(kind, key, value, expires=expires), 1)
        with answering():
            try:
                await self._rows.insert_one(made)
                return True
            except DuplicateKeyError:
                dead = {"_id": made["_id"], "x": {"$lte": self._now()}}
                return (await self._rows.replace_one(dead, made)).matched_count == 1

    async def get(self, kind: str, key: str) -> Row | None:
        with answering():
            found = await self._loader.get(name_of(kind, key))
        return self._alive(found)

    async def get_many(self, places: Sequence[tuple[str, str]]) -> list[Row | None]:
        with answering():
            found = await self._loader.get_many([name_of(*place) for place in places])
        return [self._alive(document) for document in found]

    def _alive(self, found: Document | None) -> Row | None:
        if found is None or (found["x"] is not None and found["x"] <= self._now()):
            return None
        return row_of(found)

    async def cas(
        self, kind: str, key: str, value: Value | None, revision: int, expires: float | None = None
    ) -> bool:
        at = {"_id": name_of(kind, key), "n": revision, **self._live()}
        with answering():
            if value is None:
                return (await self._rows.delete_one(at)).deleted_count == 1
            made = document_of(LedgerWrite(kind, key, value, expires=expires), revision + 1)
            return (await self._rows.replace_one(at, made)).matched_count == 1

    async def scan(self, kind: str, prefix: str = "") -> list[Row]:
        start = name_of(kind, prefix)
        where = {"_id": {"$gte": start, "$lt": behind(start)}, **self._live()}
        command = {"find": "ledger", "filter": where, "sort": {"_id": 1}, "hint": "_id_"}
        with answering():
            found = await all_found(self._session, command)
        return [row_of(document) for document in found]

    async def expire(self) -> int:
        with answering():
            return (await self._rows.delete_many({"x": {"$lte": self._now()}})).deleted_count


class LedgerWrites:
    """The ledger rows of one transaction: checked set by set, written together."""

    def __init__(self, session: Session, now: Callable[[], float]) -> None:
        self._session = session
        self._now = now
        self._revisions: dict[str, int] = {}
        self._last: dict[str, Document | None] = {}

    async def look(self, writes: Iterable[LedgerWrite]) -> None:
        """Reads at which revision these rows are."""
        names = list({name_of(w.kind, w.key) for w in writes})
        if not names:
            return
        wanted = {"_id": {"$in": names}}
        now = self._now()
        command = {"find": "ledger", "filter": wanted, "projection": {"n": 1, "x": 1}}
        for row in await all_found(self._session, command):
            if row["x"] is None or row["x"] > now:
                self._revisions[row["_id"]] = row["n"]

    def check(self, writes: Iterable[LedgerWrite]) -> None:
        """Raises Stale unless every expectation holds."""
        after: dict[str, int] = {}
        for write in writes:
            name = name_of(write.kind, write.key)
            revision = after.get(name, self._revisions.get(name, 0))
            if write.expect not in (None, revision):
                raise Stale()
            after[name] = 0 if write.value is None else revision + 1

    def add(self, writes: Iterable[LedgerWrite]) -> None:
        """Queues the writes of a set that was checked."""
        for write in writes:
            name = name_of(write.kind, write.key)
            revision = 0 if write.value is None else self._revisions.get(name, 0) + 1
            self._revisions[name] = revision
            self._last[name] = document_of(write, revision) if revision else None

    async def flush(self) -> None:
        made = [replaced(name, d) for name, d in self._last.items() if d is not None]
        gone = [{"q": {"_id": name}, "limit": 1} for name, d in self._last.items() if d is None]
        await put(self._session, {"update": "ledger"}, "updates", made)
        await put(self._session, {"delete": "ledger"}, "deletes", gone)
        self._last = {}
