"""Who writes at present, so that a writer that died within a transaction holds up nobody.

A transaction whose client is gone stays open for a minute, with the counter in its hands.
Every writer therefore announces its session and beats while it writes; who is turned away
again and again ends the session of a writer whose beat has stopped. If that one was only
slow, its transaction fails and it tries again: nothing is lost by a wrong guess.
https://www.mongodb.com/docs/manual/reference/command/killSessions/
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pymongo.errors import PyMongoError

from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.schema import Database

BEAT: Final = 0.5
"""Seconds between two beats of a writer that is busy."""
STOPPED: Final = 3.0
"""Seconds without a beat after which a writer is taken for dead."""
KIND: Final = "writer/"


class Seen(NamedTuple):
    beats: int
    since: float


class Presence:
    """The announcement of this process, and what it knows of others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._announced: Any = None
        self._seen: dict[str, Seen] = {}
        self._looked = 0.0

    async def announce(self, session: Document) -> None:
        """Tells the others of the session (``lsid``) in which this process is about to write."""
        lsid = session["id"]
        if lsid != self._announced:
            made = {"_id": KIND + bytes(lsid).hex(), "lsid": lsid, "beats": 0}
            await self._database.meta.replace_one({"_id": made["_id"]}, made, upsert=True)
            self._announced = lsid

    async def beat(self) -> None:
        """For ever, while this process writes."""
        while True:
            await asyncio.sleep(BEAT)
            if self._announced is not None:
                mine = {"_id": KIND + bytes(self._announced).hex()}
                with suppress(PyMongoError):  # a beat that fails is one that is not heard
                    await self._database.meta.update_one(mine, {"$inc": {"beats": 1}})

    async def leave(self) -> None:
        if self._announced is not None:
            gone, self._announced = self._announced, None
            await self._database.meta.delete_one({"_id": KIND + bytes(gone).hex()})

    async def turned_away(self) -> None:
        """Ends the transactions of writers that have been silent since an earlier look."""
        now = time.monotonic()
        if now - self._looked < BEAT:
            return
        self._looked = now
        others = {"_id": {"$gte": KIND, "$lt": "writer0"}}
        for writer in await self._database.meta.find(others).to_list():
            if writer["lsid"] != self._announced:
                await self._judge(writer, now)

    async def _judge(self, writer: Document, now: float) -> None:
        seen = self._seen.get(writer["_id"])
        if seen is None or seen.beats != writer["beats"]:
            self._seen[writer["_id"]] = Seen(writer["beats"], now)
        elif now - seen.since > STOPPED:
            await self._database.command("killSessions", [{"id": writer["lsid"]}])
            await self._database.meta.delete_one({"_id": writer["_id"]})
            del self._seen[writer["_id"]]
