"""Point reads that arrive while one is under way share the next command.

A command costs the client far more than a document does; under load most requests look up
the same few rows. A read never joins a command that has been sent, so it sees everything
that was acknowledged before it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeAlias

from pymongo.errors import PyMongoError

from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.sessions import Session, all_found, one_found

Found: TypeAlias = asyncio.Future[Document | None]


class Loader:
    """Documents of one collection by ``_id``. ``fields``: the projection; none: all."""

    def __init__(
        self, session: Session, collection: str, fields: Mapping[str, int] | None = None
    ) -> None:
        self._session = session
        self._find: Document = {"find": collection, "filter": {}, "projection": fields or {}}
        self._wanted: dict[str, Found] = {}
        self._task: asyncio.Task[None] | None = None
        self._reading = False

    async def get(self, id_: str) -> Document | None:
        """The document, or None; raises what the driver raises."""
        if self._task is None and not self._reading:
            return (await self._alone([id_])).get(id_)
        return await asyncio.shield(self._joining(id_))

    async def get_many(self, ids: list[str]) -> list[Document | None]:
        """The same of several, by one command."""
        if self._task is None and not self._reading:
            there = await self._alone(ids)
            return [there.get(id_) for id_ in ids]
        wanted = [self._joining(id_) for id_ in ids]
        return [await asyncio.shield(found) for found in wanted]

    def _joining(self, id_: str) -> Found:
        """What the next command will have found."""
        found = self._wanted.get(id_)
        if found is None:
            found = self._wanted[id_] = asyncio.get_running_loop().create_future()
        return found

    async def _alone(self, ids: list[str]) -> dict[str, Document]:
        self._reading = True
        try:
            return await self._read(ids)
        finally:
            self._reading = False
            if self._wanted:
                self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                await self._answer(wanted)
        finally:
            self._task = None

    async def _answer(self, wanted: dict[str, Found]) -> None:
        try:
            there = await self._read(list(wanted))
        except PyMongoError as error:
            for found in wanted.values():
                found.set_exception(error)
                found.exception()  # seen, also if nobody waits any more
            return
        for id_, found in wanted.items():
            found.set_result(there.get(id_))

    async def _read(self, ids: list[str]) -> dict[str, Document]:
        if len(ids) == 1:
            one = await one_found(self._session, {**self._find, "filter": {"_id": ids[0]}})
            return {} if one is None else {ids[0]: one}
        wanted = {"_id": {"$in": ids}}
        there = await all_found(self._session, {**self._find, "filter": wanted})
        return {document["_id"]: document for document in there}
