"""The commands of one transaction: several change sets, each whole or not at all.

Every set is checked against the documents as the sets before it leave them; documents are
written at the end, with one command per collection, or before a condition is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from fhir_server.model.resource import Key
from fhir_server.store.base import Change, Committed, Guard, Stale
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.mongo.documents import VERSION, Document, name, superseded
from fhir_server.store.mongo.ledger import MongoLedger
from fhir_server.store.mongo.search import guard_holds
from fhir_server.store.mongo.sessions import Session, all_found, put, replaced
from fhir_server.store.mongo.tables import Tables
from fhir_server.store.mongo.view import View

Result: TypeAlias = Committed | Exception
COUNTER: Final = {"_id": "counter"}
REMEMBERED: Final = 64
"""Transactions whose commit can be looked up afterwards."""


class PreparedSet(NamedTuple):
    changes: tuple[tuple[Change, Document], ...]
    guards: tuple[Guard, ...]
    ledger: tuple[LedgerWrite, ...]


class Group:
    """Within a transaction that has taken the counter."""

    def __init__(self, tables: Tables, ledger: MongoLedger, session: Session) -> None:
        self._tables = tables
        self._ledger = ledger.writes(session)
        self._session = session
        self._current: dict[str, Document] = {}
        self._touched: dict[str, Document] = {}
        self._old: list[Document] = []
        self._live: Counter[str] = Counter()
        self._seq = self._rid = 0
        self._moved = False

    def starting_from(self, counter: Document) -> None:
        """``counter``: the document as this transaction has taken it."""
        self._seq, self._rid = int(counter["seq"]), int(counter["rid"])

    async def write(self, group: Sequence[PreparedSet]) -> list[Result]:
        """The answer to each set, Stale for one that is not written."""
        await self._look({made["_id"] for prepared in group for _, made in prepared.changes})
        await self._ledger.look(write for prepared in group for write in prepared.ledger)
        results: list[Result] = []
        for prepared in group:
            try:
                results.append(await self._add(prepared))
            except Stale as stale:
                results.append(stale)
        await self._flush()
        await self._ledger.flush()
        await self._count()
        return results

    async def _look(self, names: set[str]) -> None:
        """Reads what is current of these resources."""
        if not names:
            return
        fields = {**VERSION, "t": 1, "y": 1}
        wanted = {"_id": {"$in": list(names)}}
        command = {"find": "resource", "filter": wanted, "projection": fields}
        self._current = {d["_id"]: d for d in await all_found(self._session, command)}

    async def _add(self, prepared: PreparedSet) -> Committed:
        """Checks a set and queues its documents, or raises Stale and leaves nothing of it."""
        if prepared.guards:
            await self._flush()
        for guard in prepared.guards:
            if not await guard_holds(View(self._tables, self._session), guard):
                raise Stale()
        self._check(change for change, _ in prepared.changes)
        self._ledger.check(prepared.ledger)
        self._ledger.add(prepared.ledger)
        return Committed(tuple(self._queue(dict(made)) for _, made in prepared.changes))

    def _check(self, changes: Iterable[Change]) -> None:
        versions: dict[str, int] = {}
        moved: list[Key] = []
        for change in changes:
            place = name(change.key)
            at = versions.get(place, self._current.get(place, {}).get("v", 0))
            if change.expect != at:
                moved.append(change.key)
            versions[place] = change.version
        if moved:
            raise Stale(tuple(moved))

    def _queue(self, document: Document) -> int:
        place = document["_id"]
        before = self._current.get(place)
        self._seq += 1
        self._moved = True
        document["q"] = self._seq
        if before is None:
            self._rid += 1
            document["n"] = self._rid
        else:
            document["n"] = before["n"]
            self._old.append(superseded(before, document))
        self._live[document["t"]] += ("y" in document) - ("y" in (before or {}))
        self._current[place] = self._touched[place] = document
        return self._seq

    async def _flush(self) -> None:
        """Writes what is queued."""
        await put(self._session, {"insert": "version"}, "documents", self._old)
        touched = (replaced(place, document) for place, document in self._touched.items())
        await put(self._session, {"update": "resource"}, "updates", touched)
        self._old, self._touched = [], {}

    async def _count(self) -> None:
        """Puts the numbers of this transaction into the counter."""
        if self._moved:
            numbers = {"seq": self._seq, "rid": self._rid}
            await count(self._session, self._live, numbers)


async def take(session: Session, transaction: bytes) -> Document | None:
    """Takes the counter, which no other transaction then can, and answers with what it was.
    None: a transaction of this name has committed before, so nothing is to be written.
    """
    push = {"$each": [transaction], "$slice": -REMEMBERED}
    command: Document = {"findAndModify": "meta", "query": COUNTER}
    reply = await session.run({**command, "update": {"$push": {"done": push}}})
    found: Document = reply["value"]  # as it was; it is made with the schema
    return None if transaction in found["done"] else found


async def count(session: Session, live: Mapping[str, int], numbers: Document) -> None:
    """``live``: by how many the current resources of each type have changed."""
    changed = {f"live.{type_}": n for type_, n in live.items() if n}
    parts = {"$set": numbers, "$inc": changed}
    change = {operator: fields for operator, fields in parts.items() if fields}
    if change:
        await session.run({"update": "meta", "updates": [{"q": COUNTER, "u": change}]})
