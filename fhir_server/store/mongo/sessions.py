"""What reads and writes are part of: nothing, one point in time, or a transaction."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final, Protocol

from bson import Binary, Int64, encode
from pymongo.errors import AutoReconnect, PyMongoError

from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.wire import Line, Part

MILLISECONDS: Final = 20_000
"""What a single command may take."""
BATCH: Final = 1001
PARTS: Final = 40 * 1024 * 1024
"""Bytes of the documents of one command; MongoDB's limit is 48 MB."""
_UNCERTAIN: Final = "UnknownTransactionCommitResult"
_TRANSIENT: Final = "TransientTransactionError"
_MAJORITY: Final = {"w": "majority", "j": True}
_RETRY_COMMIT: Final = {**_MAJORITY, "wtimeout": 10_000}


def _looks(command: Document) -> bool:
    """Whether a command takes a read concern."""
    return "find" in command or "aggregate" in command


class Session(Protocol):
    """Commands that belong together. The database is added to each."""

    async def run(self, command: Document, *parts: Part) -> Document:
        """The answer. Raises PyMongoError."""
        ...


class Plain:
    """Each command by itself, of what a majority of the servers has."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def run(self, command: Document, *parts: Part) -> Document:
        if _looks(command):
            command["readConcern"] = {"level": "majority"}
        command["$db"] = self._lines.database
        return await self._lines.ask(command, *parts)


class Snapshot:
    """Reads at the point in time of the first of them.

    https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/
    """

    def __init__(self, lines: Lines, line: Line) -> None:
        self._lines = lines
        self._line = line
        self._concern: Document = {"level": "snapshot"}

    async def run(self, command: Document, *parts: Part) -> Document:
        if _looks(command):
            command["readConcern"] = self._concern
        command["lsid"] = self._line.lsid
        command["$db"] = self._lines.database
        reply = await self._line.send(self._lines.stamp(command), *parts)
        self._lines.heard(reply)
        at = reply.get("cursor", reply).get("atClusterTime")
        if at is not None and len(self._concern) == 1:
            self._concern = {"level": "snapshot", "atClusterTime": at}
        return reply


class Writing:
    """The session of a writer, which numbers its transactions."""

    def __init__(self) -> None:
        self.lsid: Document = {"id": Binary(uuid.uuid4().bytes, 4)}
        self._numbers = count(1)

    def next(self) -> Int64:
        return Int64(next(self._numbers))


class Transaction:
    """Commands that take effect together or not at all, on one connection."""

    def __init__(self, lines: Lines, line: Line, writing: Writing) -> None:
        self._lines = lines
        self._line = line
        self._named: Document = {
            "lsid": writing.lsid,
            "txnNumber": writing.next(),
            "autocommit": False,
        }
        self._begun = self._committing = False
        self._token: Document | None = None
        self.over = False

    async def run(self, command: Document, *parts: Part) -> Document:
        if not self._begun:
            command["readConcern"] = {"level": "snapshot"}
            command["startTransaction"] = True
            self._begun = True
        command |= self._named
        command["$db"] = self._lines.database
        try:
            reply = await self._line.send(self._lines.stamp(command), *parts)
        except AutoReconnect as error:
            raise _labelled(error, _TRANSIENT) from error
        self._token = reply.get("recoveryToken", self._token)
        return reply

    def _ending(self, name: str, concern: Document) -> Document:
        command = {name: 1, **self._named, "writeConcern": concern, "$db": "admin"}
        if self._token is not None:
            command["recoveryToken"] = self._token
        return self._lines.stamp(command)

    async def commit(self) -> None:
        """May be repeated when its outcome is not known, on another connection too."""
        concern = _RETRY_COMMIT if self._committing else _MAJORITY
        self._committing = True
        try:
            if self._line.lost:
                reply = await self._lines.read(
                    lambda line: line.send(self._ending("commitTransaction", concern))
                )
            else:
                reply = await self._line.send(self._ending("commitTransaction", concern))
        except AutoReconnect as error:
            self._line.close()
            raise _labelled(error, _UNCERTAIN) from error
        self._lines.heard(reply)
        self.over = True

    async def abort(self) -> None:
        """Gives it up, on another connection if its own is lost; never raises for that."""
        if self.over or not self._begun:
            return
        self.over = True
        try:
            command = self._ending("abortTransaction", _MAJORITY)
            if self._line.lost:
                await self._lines.use(lambda line: line.send(command))
            else:
                await self._line.send(command)
        except PyMongoError:
            return  # it is gone already, or ends with its session


def _labelled(error: AutoReconnect, label: str) -> AutoReconnect:
    details = dict(error.details) if isinstance(error.details, Mapping) else {}
    return type(error)(str(error), {**details, "errorLabels": [label]})


async def found(session: Session, command: Document) -> AsyncGenerator[list[Document], None]:
    """The batches of a ``find`` or ``aggregate``; what is not read is closed."""
    command.setdefault("maxTimeMS", MILLISECONDS)
    size = command.get("batchSize", command.get("cursor", {}).get("batchSize"))
    collection = next(iter(command.values()))
    cursor = (await session.run(command))["cursor"]
    batch, number = cursor["firstBatch"], cursor["id"]
    try:
        while True:
            if batch:
                yield batch
            if not number:
                return
            more: Document = {"getMore": Int64(number), "collection": collection}
            if size:
                more["batchSize"] = size
            cursor = (await session.run(more))["cursor"]
            batch, number = cursor["nextBatch"], cursor["id"]
    finally:
        if number:
            with suppress(PyMongoError):
                await session.run({"killCursors": collection, "cursors": [Int64(number)]})


async def all_found(session: Session, command: Document) -> list[Document]:
    command.setdefault("maxTimeMS", MILLISECONDS)
    if "find" in command:
        command.setdefault("batchSize", BATCH)
    cursor = (await session.run(command))["cursor"]
    documents: list[Document] = cursor["firstBatch"]
    while number := cursor["id"]:
        more = {"getMore": Int64(number), "collection": next(iter(command.values()))}
        cursor = (await session.run(more))["cursor"]
        documents += cursor["nextBatch"]
    return documents


async def one_found(session: Session, command: Document) -> Document | None:
    """The first document of a ``find``."""
    command |= {"limit": 1, "singleBatch": True}
    batch = (await session.run(command))["cursor"]["firstBatch"]
    return batch[0] if batch else None


async def put(
    session: Session, command: Document, name: str, documents: Iterable[Document]
) -> None:
    """A command on many documents, in pieces that a message can hold."""
    some: list[bytes] = []
    size = 0
    for document in documents:
        made = encode(document)
        if some and size + len(made) > PARTS:
            await session.run(dict(command), Part(name, some))
            some, size = [], 0
        some.append(made)
        size += len(made)
    if some:
        await session.run(dict(command), Part(name, some))


def replaced(name: Any, document: Document) -> Document:
    """A statement of an ``update``: the document as it shall be."""
    return {"q": {"_id": name}, "u": document, "upsert": True}
