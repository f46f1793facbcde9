"""Opening a data directory: who writes, who hands over, who is refused.

``server.lock`` is held by the one server; ``writer.lock`` by the elected writer among its
workers and the commands beside it, and says where the writer's socket is. Both are released
by the system when their process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fhir_server.model.problem import Unavailable
from fhir_server.store.sqlite.lane import IN_TIME, MOST_WAITING, Lane
from fhir_server.store.sqlite.prepared import PreparedSet
from fhir_server.store.sqlite.remote import RemoteWriter, WriterService
from fhir_server.store.sqlite.schema import FILE
from fhir_server.store.sqlite.store import SqliteStore
from fhir_server.store.sqlite.writer import Kept, LocalWriter, Result, Writer

ROLES: Final = ("serve", "worker", "command")
"""``serve``: the one server of this directory; ``worker``: one of its processes; ``command``:
may run beside it. Each of them becomes the writer if there is none."""

PATIENCE: Final = 10.0
"""Seconds to find or become the writer."""
_LONGEST_SOCKET: Final = 100


class Lock:
    """An exclusive lock on a file; None where another process has it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def fileno(self) -> int:
        """A process that inherits this file holds the lock too."""
        return self._file

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        lock = cls(path)
        try:
            fcntl.flock(lock._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.release()
            return None
        return lock

    def write(self, text: str) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def release(self) -> None:
        os.close(self._file)


class ElectedWriter:
    """The writer of a data directory: this process if it has the lock, else the one that has."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._writer: LocalWriter | RemoteWriter | None = None
        self._lock: Lock | None = None
        self._service: WriterService | None = None
        self._election = asyncio.Lock()

    @property
    def local(self) -> bool:
        """Whether this process is the writer."""
        return isinstance(self._writer, LocalWriter)

    @property
    def kept(self) -> Kept | None:
        return self._writer.kept if self._writer is not None else None

    @property
    def trouble(self) -> str | None:
        return self._writer.trouble if self._writer is not None else None

    async def write(self, prepared: PreparedSet) -> Result:
        return await (await self.elect()).write(prepared)

    async def elect(self) -> Writer:
        """The writer, found anew when the last one is gone."""
        writer = self._writer
        if isinstance(writer, LocalWriter) or (writer is not None and not writer.lost):
            return writer
        async with self._election:
            deadline = time.monotonic() + PATIENCE
            while not (await self._become() or await self._find()):
                if time.monotonic() > deadline:
                    raise Unavailable("no writer answers", headers={"Retry-After": "5"})
                await asyncio.sleep(0.05)
        return await self.elect()

    async def _become(self) -> bool:
        if self._writer is not None and not (
            isinstance(self._writer, RemoteWriter) and self._writer.lost
        ):
            return True
        lock = Lock.take(self._folder / "writer.lock")
        if lock is None:
            return False
        try:
            writer = LocalWriter(self._folder / FILE, self._now)
            place = self._folder.absolute() / "writer.sock"
            if len(os.fsencode(place)) > _LONGEST_SOCKET:
                place = Path(tempfile.mkdtemp(prefix="vehr-")) / "writer.sock"
            self._service = WriterService(writer)
            await self._service.start(place)
            lock.write(str(place))
        except BaseException:
            # Another process, or this one a little later, may be able to.
            lock.release()
            raise
        self._lock, self._writer = lock, writer
        writer.start()
        return True

    async def _find(self) -> bool:
        try:
            place = (self._folder / "writer.lock").read_text()
            self._writer = await RemoteWriter.connect(Path(place))
        except OSError:
            return False
        return True

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()
        if self._writer is not None:
            await self._writer.close()
        if self._lock is not None:
            self._lock.release()


class OpenStore(SqliteStore):
    """A store with the locks that its process holds."""

    def __init__(
        self,
        folder: Path,
        writer: ElectedWriter,
        server: Lock | None,
        now: Callable[[], float],
        lane: Lane,
    ) -> None:
        super().__init__(folder / FILE, writer, now, lane)
        self.writer = writer
        self._server = server

    async def close(self) -> None:
        await super().close()
        if self._server is not None:
            self._server.release()


def server_lock(folder: Path) -> Lock:
    """The lock of the one server of a data directory; Unavailable if another one has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = Lock.take(folder / "server.lock")
    if lock is None:
        raise Unavailable("another server is running on this data directory")
    return lock


async def open_store(
    folder: Path,
    role: str,
    now: Callable[[], float] = time.time,
    most_slow: int = MOST_WAITING,
    patience: float = IN_TIME,
) -> OpenStore:
    """Opens, and creates, the database of a data directory.

    Raises Unavailable: a second server, a schema newer than this program, no writer.
    ``role``: one of ``ROLES``. ``now``: epoch seconds. ``most_slow``: slow searches of one
    principal that wait at a time. ``patience``: seconds in which what waits is to be answered.
    """
    if role not in ROLES:
        raise ValueError(f"{role!r} is none of {ROLES}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = server_lock(folder) if role == "serve" else None
    writer = ElectedWriter(folder, now)
    try:
        await writer.elect()
        return OpenStore(folder, writer, server, now, Lane(most_slow, patience))
    except BaseException as error:
        await writer.close()
        if server is not None:
            server.release()
        if isinstance(error, sqlite3.Error):
            raise Unavailable(f"the database cannot be opened: {error}") from error
        raise
