"""History and the change feed: the newest versions and the superseded ones, merged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TOTAL_LIMIT, History
from fhir_server.store.base import Versions
from fhir_server.store.mongo.documents import OLD, VERSION, Document, Row, name
from fhir_server.store.mongo.sessions import Session, all_found, one_found
from fhir_server.store.mongo.tables import Tables

SOME: Final = 200
"""Versions of the change feed that are read at once."""


class Branch:
    """One of the two collections as a history sees it. ``at``: the field of the position."""

    def __init__(self, session: Session, rows: str, where: Document, at: str, hint: str) -> None:
        self._session = session
        self._rows = rows
        self._where = where
        self._at = at
        self._hint = hint

    async def newest(self, before: int | None, count: int) -> list[Document]:
        where = dict(self._where)
        if before is not None:
            where[self._at] = {"$lt": before}
        fields = OLD if self._at == "_id" else VERSION
        command: Document = {"find": self._rows, "filter": where, "projection": fields}
        command |= {"sort": {self._at: -1}, "hint": self._hint, "limit": count}
        return await all_found(self._session, command)

    async def count(self, limit: int | None) -> int:
        stages: list[Document] = [{"$match": self._where}]
        if limit is not None:
            stages.append({"$limit": limit})
        stages.append({"$count": "n"})
        command = {"aggregate": self._rows, "pipeline": stages, "cursor": {}, "hint": self._hint}
        return next((int(d["n"]) for d in await all_found(self._session, command)), 0)


def _branches(session: Session, history: History) -> tuple[Branch, Branch]:
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
        Branch(session, "resource", now, "q", hints[0]),
        Branch(session, "version", old, "_id", hints[1]),
    )


async def versions(tables: Tables, history: History, session: Session) -> Versions:
    branches = _branches(session, history)
    want = history.count + 1
    found = [d for b in branches for d in await b.newest(history.before, want)]
    found.sort(key=lambda document: document["q"], reverse=True)
    limit = None if history.id or not history.count else TOTAL_LIMIT + 1
    total = sum([await branch.count(limit) for branch in branches])
    page = [Row(document, tables.codec).stored() for document in found[: history.count]]
    return Versions(
        entries=page,
        total=None if limit is not None and total >= limit else total,
        next=page[-1].seq if page and len(found) > len(page) else None,
    )


async def version(tables: Tables, key: Key, number: int, session: Session) -> Stored | None:
    """One version, the newest or a superseded one."""
    where: Document = {"_id": name(key)}
    command = {"find": "resource", "filter": where, "projection": VERSION}
    found = await one_found(session, command)
    if found is None or found["v"] < number:
        return None
    if found["v"] != number:
        # A write between the two looks only adds superseded versions.
        where = {"o": name(key), "v": number}
        command = {"find": "version", "filter": where, "projection": OLD}
        found = await one_found(session, command)
    return None if found is None else Row(found, tables.codec).stored()


async def feed(tables: Tables, since: int, last: int, session: Session) -> AsyncIterator[Stored]:
    """What was written behind ``since`` up to ``last``, in order of commit."""
    at = since
    while at < last:
        upto = min(at + SOME, last)
        # Superseded ones last: a version may move there in between, never back.
        span = {"$gt": at, "$lte": upto}
        now = {"find": "resource", "filter": {"q": span}, "projection": VERSION, "hint": "q"}
        old = {"find": "version", "filter": {"_id": span}, "projection": OLD, "hint": "_id_"}
        found = await all_found(session, now)
        known = {document["q"]: document for document in await all_found(session, old)}
        known |= {document["q"]: document for document in found}
        for seq in sorted(known):
            yield Row(known[seq], tables.codec).stored()
        at = upto
