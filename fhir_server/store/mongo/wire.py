"""One connection to a MongoDB server, for the commands that every request needs.

PyMongo finds the servers, watches them and builds the schema; a command through its layers
costs 300 microseconds of this process, one written here 40. Both speak OP_MSG:
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from math import inf
from struct import Struct
from typing import Any, Final, NamedTuple, cast

from bson import Binary, decode, encode
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    WriteConcernError,
)

from fhir_server.store.mongo.documents import Document

OP_MSG: Final = 2013
_HEADER: Final = Struct("<iiiiIB")
_LENGTH: Final = Struct("<i")
PATIENCE: Final = 25.0
"""Seconds without an answer after which a connection is given up, where nothing else is said."""
EVER: Final = inf
NOT_PRIMARY: Final = frozenset({10107, 13435, 10058, 11600, 11602, 189, 91})
"""https://github.com/mongodb/specifications (server discovery): "not writable primary" and
"node is recovering"."""


class Part(NamedTuple):
    """Documents of a command that stand behind it: one command holds 16 MiB, these more."""

    name: str
    documents: Sequence[bytes]


class Line(asyncio.Protocol):
    """A connection; one command at a time. Its own session serves reads at one point in time.
    ``patience``: seconds without an answer after which it is given up; ``EVER``: it never is."""

    def __init__(self, patience: float | None = None) -> None:
        self._patience = PATIENCE if patience is None else patience
        self.lsid: Document = {"id": Binary(uuid.uuid4().bytes, 4)}
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._number = 0
        self._asked = 0.0
        self._watch: asyncio.TimerHandle | None = None

    # --- asyncio --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._buffer and len(data) >= 4 and _LENGTH.unpack_from(data)[0] == len(data):
            self._settle(data)
            return
        self._buffer += data
        while len(self._buffer) >= 4:
            length: int = _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < length:
                return
            message = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._settle(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(AutoReconnect("the connection is lost"))

    def _settle(self, message: bytes) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(message)

    # --- commands -------------------------------------------------------------------

    def close(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    async def send(self, command: Document, *parts: Part) -> Document:
        """The answer to a command, which names its database (``$db``).

        Raises what the driver raises: OperationFailure and its kinds, AutoReconnect.
        """
        if self.lost or self._transport is None:
            raise AutoReconnect("the connection is lost")
        if self._answer is not None:
            raise RuntimeError("one command at a time")
        loop = asyncio.get_running_loop()
        answer = self._answer = loop.create_future()
        self._asked = loop.time()
        self._transport.write(self._message(command, parts))
        if self._watch is None and self._patience < EVER:
            self._watch = loop.call_later(self._patience, self._look)
        try:
            message = await answer
        except asyncio.CancelledError:
            self.close()
            raise
        reply: Document = decode(memoryview(message)[21:])
        return reply if _well(reply) else _failed(reply)

    def _look(self) -> None:
        """Has it answered in time? One timer looks after many commands."""
        self._watch = None
        answer = self._answer
        if answer is None or answer.done():
            return
        loop = asyncio.get_running_loop()
        left = self._asked + self._patience - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._look)
            return
        answer.set_exception(NetworkTimeout("the server does not answer"))
        self.close()

    def _message(self, command: Document, parts: Sequence[Part]) -> bytes:
        self._number += 1
        body = encode(command)
        if not parts:
            return _HEADER.pack(21 + len(body), self._number, 0, OP_MSG, 0, 0) + body
        pieces = [body]
        for name, documents in parts:
            named = name.encode() + b"\0"
            size = 4 + len(named) + sum(map(len, documents))
            pieces += (b"\x01" + _LENGTH.pack(size) + named, *documents)
        size = 21 + sum(map(len, pieces))
        return b"".join((_HEADER.pack(size, self._number, 0, OP_MSG, 0, 0), *pieces))


def _well(reply: Document) -> bool:
    return bool(reply["ok"]) and "writeErrors" not in reply and "writeConcernError" not in reply


def _failed(reply: Document) -> Document:
    """Raises what an answer says."""
    details: dict[str, Any] = dict(reply)
    if reply["ok"]:
        inner = reply["writeErrors"][0] if "writeErrors" in reply else reply["writeConcernError"]
        details = {**reply, **inner}
    code, text = details.get("code"), str(details.get("errmsg", ""))
    if code in NOT_PRIMARY:
        raise NotPrimaryError(text, details)
    if code == 50:
        raise ExecutionTimeout(text, code, details)
    if code in (11000, 11001):
        raise DuplicateKeyError(text, code, details)
    if reply["ok"] and "writeErrors" not in reply:
        raise WriteConcernError(text, code, details)
    raise OperationFailure(text, code, details)
