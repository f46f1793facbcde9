"""The socket beside the database: other processes hand their prepared sets to the writer.

One message is a length (4 bytes, big-endian) and msgpack. A request is [number, set], an
answer [number, kind, ...]. The socket is in the data directory and for its owner only.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from struct import Struct
from typing import Any, Final

import msgspec

from fhir_server.model.problem import Problem, Unavailable
from fhir_server.model.resource import Key
from fhir_server.store.base import Committed, Stale
from fhir_server.store.codec import Damaged
from fhir_server.store.sqlite.prepared import PreparedSet, from_wire, to_wire
from fhir_server.store.sqlite.writer import Kept, LocalWriter, Result

_LENGTH: Final = Struct(">I")
_MOST: Final = 1 << 30


async def _receive(stream: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    if length > _MOST:
        raise ConnectionError("message too long")
    return msgspec.msgpack.decode(await stream.readexactly(length))


def _send(stream: asyncio.StreamWriter, message: Any) -> None:
    content = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)


class WriterService:
    """Serves the writer of this process on a socket."""

    def __init__(self, writer: LocalWriter) -> None:
        self._writer = writer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: set[asyncio.StreamWriter] = set()

    async def start(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path)
        path.chmod(0o600)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            while True:
                number, content = await _receive(reader)
                task = asyncio.create_task(self._answer(writer, number, content))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._streams.discard(writer)
            writer.close()

    async def _answer(self, stream: asyncio.StreamWriter, number: int, content: bytes) -> None:
        try:
            result = await self._writer.write(from_wire(content))
            answer: tuple[Any, ...] = ("ok", result.committed.seqs, *result[1:])
        except Stale as stale:
            answer = ("stale", stale.keys)
        except Damaged as damage:
            answer = ("damaged", str(damage))
        except Problem as problem:
            answer = ("problem", str(problem))
        if not stream.is_closing():
            _send(stream, (number, *answer))
            await stream.drain()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for stream in tuple(self._streams):
            stream.close()


class RemoteWriter:
    """The writer of another process. Made by ``connect``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self.lost = False
        self.kept: Kept | None = None
        self.trouble: str | None = None
        self._listener = asyncio.create_task(self._listen(reader))

    @classmethod
    async def connect(cls, path: Path) -> RemoteWriter:
        """Raises OSError where nobody listens."""
        return cls(*await asyncio.open_unix_connection(path))

    async def write(self, prepared: PreparedSet) -> Result:
        if self._stream.is_closing() and not self.lost:
            self._lose()  # the listener hears of it a little later
        if self.lost:
            raise Unavailable("the writer is gone", headers={"Retry-After": "1"})
        number = next(self._numbers)
        try:
            _send(self._stream, (number, to_wire(prepared)))
        except RuntimeError:  # of uvloop, where the stream has been closed
            self._lose()
            raise Unavailable("the writer is gone", headers={"Retry-After": "1"}) from None
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[number] = done
        return await done

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, *answer = await _receive(reader)
                done = self._waiting.pop(number)
                self.trouble = str(answer[1]) if answer[0] == "problem" else None
                if not done.done():
                    _settle(done, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._lose()

    def _lose(self) -> None:
        """Whether what is under way was committed is not known."""
        self.lost = True
        for done in self._waiting.values():
            if not done.done():
                text = "the writer is gone: the outcome is not known"
                done.set_exception(Unavailable(text, headers={"Retry-After": "1"}))
        self._waiting.clear()

    async def close(self) -> None:
        self._listener.cancel()
        self._stream.close()
        self._lose()


def _settle(done: asyncio.Future[Result], answer: list[Any]) -> None:
    match answer:
        case ["ok", seqs, expired, erased, *rest]:
            done.set_result(Result(Committed(tuple(seqs)), expired, tuple(erased), *rest))
        case ["stale", keys]:
            done.set_exception(Stale(tuple(Key(*key) for key in keys)))
        case ["damaged", text]:
            done.set_exception(Damaged(text))
        case [_, text]:
            done.set_exception(Unavailable(text, headers={"Retry-After": "5"}))
