"""History and the change feed: the newest versions and the superseded ones, merged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from pymongo.asynchronous.client_session import AsyncClientSession

from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TOTAL_LIMIT, History
from fhir_server.store.base import Versions
from fhir_server.store.mongo.documents import OLD, VERSION, Document, Row, name
from fhir_server.store.mongo.tables import MILLISECONDS, Collection, Tables

SOME: Final = 200
"""Versions of the change feed that are read at once."""


class Branch:
    """One of the two collections as a history sees it. ``at``: the field of the position."""

    def __init__(
        self,
        rows: Collection,
        where: Document,
        at: str,
        hint: str,
        session: AsyncClientSession | None,
    ) -> None:
        self._rows = rows
        self._where = where
        self._at = at
        self._hint = hint
        self._session = session

    async def newest(self, before: int | None, count: int) -> list[Document]:
        where = dict(self._where)
        if before is not None:
            where[self._at] = {"$lt": before}
        fields = OLD if self._at == "_id" else VERSION
        found = self._rows.find(where, fields, session=self._session, hint=self._hint)
        return await found.sort(self._at, -1).limit(count).max_time_ms(MILLISECONDS).to_list()

    async def count(self, limit: int | None) -> int:
        stages: list[Document] = [{"$match": self._where}]
        if limit is not None:
            stages.append({"$limit": limit})
        cursor = await self._rows.aggregate(
            [*stages, {"$count": "n"}], session=self._session, hint=self._hint
        )
        return next((int(d["n"]) for d in await cursor.to_list()), 0)


def _branches(
    tables: Tables, history: History, session: AsyncClientSession | None
) -> tuple[Branch, Branch]:
    now: Document = {}
    hints = ("q", "_id_")
    if history.type is not None and history.id is not None:
        now = {"_id": name(Key(history.type, history.id))}
        hints = ("_id_", "o_v")
    elif history.type is not None:
        now = {"t": history.type}
        hints = ("t_q", "t_id")
    old = {"o" if field == "_id" else field: value for field, value in now.items()}
    for where in (now, old):
        updated: Document = {}
        if history.since is not None:
            updated["$gte"] = history.since
        if history.at is not None:
            updated["$lt"] = history.at[1]
        if updated:
            where["u"] = updated
    if history.at is not None:
        old["w"] = {"$gt": history.at[0]}
    return (
        Branch(tables.resource, now, "q", hints[0], session),
        Branch(tables.version, old, "_id", hints[1], session),
    )


async def versions(
    tables: Tables, history: History, session: AsyncClientSession | None
) -> Versions:
    branches = _branches(tables, history, session)
    want = history.count + 1
    found = [d for b in branches for d in await b.newest(history.before, want)]
    found.sort(key=lambda document: document["q"], reverse=True)
    limit = None if history.id else TOTAL_LIMIT + 1
    total = sum([await branch.count(limit) for branch in branches])
    page = [Row(document, tables.codec).stored() for document in found[: history.count]]
    return Versions(
        entries=page,
        total=None if limit is not None and total >= limit else total,
        next=page[-1].seq if page and len(found) > len(page) else None,
    )


async def version(tables: Tables, key: Key, number: int) -> Stored | None:
    """One version, the newest or a superseded one."""
    found = await tables.resource.find_one({"_id": name(key)}, VERSION)
    if found is None or found["v"] < number:
        return None
    if found["v"] != number:
        # A write between the two looks only adds superseded versions.
        found = await tables.version.find_one({"o": name(key), "v": number}, OLD)
    return None if found is None else Row(found, tables.codec).stored()


async def feed(tables: Tables, since: int, last: int) -> AsyncIterator[Stored]:
    """What was written behind ``since`` up to ``last``, in order of commit."""
    at = since
    while at < last:
        upto = min(at + SOME, last)
        # Superseded ones last: a version may move there in between, never back.
        span = {"$gt": at, "$lte": upto}
        found = await tables.resource.find({"q": span}, VERSION, hint="q").to_list()
        old = await tables.version.find({"_id": span}, OLD, hint="_id_").to_list()
        known = {document["q"]: document for document in (*old, *found)}
        for seq in sorted(known):
            yield Row(known[seq], tables.codec).stored()
        at = upto
