"""Blobs: content that is too large for a resource, in files named by their SHA-256.

A blob is durable before the commit that names it; one that no commit names is an orphan
and is swept once it is old. File names are digests and random numbers made here, opened
only below one directory: nothing that a client sends becomes a path.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from fhir_server.model.problem import TooLarge, Unavailable

log = structlog.get_logger("vehr.blobs")

MAX_BLOB: Final = 100_000_000
BLOCK: Final = 1 << 20
"""Bytes that are hashed, written or read at a time."""

INCOMING: Final = "incoming"
LOCK: Final = "lock"
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PREFIX: Final = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Blob:
    """The name of a content: SHA-256 in lower-case hexadecimal digits, size in bytes."""

    sha256: str
    size: int


class Damaged(Exception):
    """A blob whose file is missing or whose bytes are not those that were stored."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(f"blob {blob.sha256} is damaged")
        self.blob = blob


IsReferenced = Callable[[str], Awaitable[bool]]
"""Does any version of a resource name the blob with this SHA-256?"""


class Blobs(Protocol):
    @property
    def shared(self) -> bool:
        """May other databases store in the same place?"""
        ...

    async def claim(self, owner: str) -> str:
        """Whose contents lie here: of this owner, unless another has claimed the place before."""
        ...

    async def put(self, content: AsyncIterator[bytes]) -> Blob:
        """Store a stream, durably. TooLarge beyond the limit, Unavailable without room."""
        ...

    async def read(self, blob: Blob) -> AsyncIterator[bytes]:
        """The content, checked as a whole before the first byte is given. Raises Damaged."""
        ...

    async def names(self) -> list[str]:
        """The SHA-256 of every blob."""
        ...

    async def discard(self, sha256: str, before: float) -> bool:
        """Remove one blob, unless it was stored after this epoch second; is it gone?"""
        ...

    async def sweep(self, is_referenced: IsReferenced, before: float) -> int:
        """Remove what nothing names and was stored before this epoch second; how many."""
        ...


class MemoryBlobs:
    """Blobs in a dict: for the store in memory, which keeps nothing either."""

    shared = False

    def __init__(self, limit: int = MAX_BLOB, clock: Callable[[], float] = time.time) -> None:
        self.contents: dict[str, bytes] = {}
        self._times: dict[str, float] = {}
        self._limit = limit
        self._clock = clock

    async def claim(self, owner: str) -> str:
        return owner

    async def put(self, content: AsyncIterator[bytes]) -> Blob:
        whole = b"".join([part async for part in limited(content, self._limit)])
        digest = hashlib.sha256(whole).hexdigest()
        self.contents[digest] = whole
        self._times[digest] = self._clock()
        return Blob(digest, len(whole))

    async def read(self, blob: Blob) -> AsyncIterator[bytes]:
        content = self.contents.get(blob.sha256)
        if content is None or hashlib.sha256(content).hexdigest() != blob.sha256:
            raise damaged(blob)
        return _blocks(content)

    async def names(self) -> list[str]:
        return sorted(self.contents)

    async def discard(self, sha256: str, before: float) -> bool:
        if self._times.get(sha256, before) <= before:
            self.contents.pop(sha256, None)
        return sha256 not in self.contents

    async def sweep(self, is_referenced: IsReferenced, before: float) -> int:
        old = [name for name in self.contents if self._times[name] < before]
        orphans = [name for name in old if not await is_referenced(name)]
        for name in orphans:
            del self.contents[name]
        return len(orphans)


async def _blocks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), BLOCK):
        yield content[start : start + BLOCK]


async def limited(content: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The same stream; TooLarge once it has more than ``limit`` bytes."""
    size = 0
    async for part in content:
        size += len(part)
        if size > limit:
            raise TooLarge(f"the content is larger than {limit} bytes")
        yield part


def damaged(blob: Blob) -> Damaged:
    log.error("blob damaged", sha256=blob.sha256, size=blob.size)
    return Damaged(blob)


class LocalBlobs:
    """Blobs in a directory: ``ab/abcdef…`` by digest, ``incoming/…`` while they arrive.

    Hashing and files are worked on in threads. ``limit``: bytes of one blob.
    """

    shared = False

    def __init__(self, root: Path, limit: int = MAX_BLOB) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._root)
        self._limit = limit
        self._make(INCOMING)
        os.fsync(self._root)
        above = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)

    async def claim(self, owner: str) -> str:
        return owner  # a folder below the data directory, which has one database

    async def put(self, content: AsyncIterator[bytes]) -> Blob:
        try:
            return await self._put(limited(content, self._limit))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable("there is no room for the content") from error
            raise

    async def _put(self, content: AsyncIterator[bytes]) -> Blob:
        name = f"{INCOMING}/{secrets.token_hex(16)}"
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._root)
        digest, size = hashlib.sha256(), 0
        try:
            async for block in gathered(content):
                await asyncio.to_thread(_append, file, digest, block)
                size += len(block)
            blob = Blob(digest.hexdigest(), size)
            await asyncio.to_thread(self._keep, file, name, blob)
        finally:
            os.close(file)
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._root)
        return blob

    def _keep(self, file: int, name: str, blob: Blob) -> None:
        """Make it durable under its digest; a damaged or older copy is replaced by it.

        The root is synced too: who made the folder may have died before it did.
        """
        os.fsync(file)
        folder = blob.sha256[:2]
        with self._locked():
            self._make(folder)
            os.replace(name, _place(blob.sha256), src_dir_fd=self._root, dst_dir_fd=self._root)
        self._sync(folder)
        os.fsync(self._root)

    async def read(self, blob: Blob) -> AsyncIterator[bytes]:
        if not await asyncio.to_thread(self._sound, blob):
            raise damaged(blob)
        return self._stream(blob)

    async def _stream(self, blob: Blob) -> AsyncIterator[bytes]:
        file = self._open(blob.sha256)
        try:
            while block := await asyncio.to_thread(os.read, file, BLOCK):
                yield block
        finally:
            os.close(file)

    def _sound(self, blob: Blob) -> bool:
        try:
            file = self._open(blob.sha256)
        except OSError:
            return False
        try:
            digest, size = hashlib.sha256(), 0
            while block := os.read(file, BLOCK):
                digest.update(block)
                size += len(block)
        except OSError:
            return False
        finally:
            os.close(file)
        return digest.hexdigest() == blob.sha256 and size == blob.size

    def _open(self, sha256: str) -> int:
        return os.open(_place(sha256), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._root)

    async def names(self) -> list[str]:
        return await asyncio.to_thread(lambda: sorted(self._names()))

    def _names(self) -> Iterator[str]:
        for folder in os.listdir(self._root):
            if _PREFIX.fullmatch(folder):
                yield from (n for n in self._list(folder) if DIGEST.fullmatch(n))

    async def discard(self, sha256: str, before: float) -> bool:
        place = _place(sha256)
        await asyncio.to_thread(self._remove, place, before)
        return not await asyncio.to_thread(self._there, place)

    def _there(self, place: str) -> bool:
        try:
            os.stat(place, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    async def sweep(self, is_referenced: IsReferenced, before: float) -> int:
        swept = 0
        for name in await asyncio.to_thread(self._list, INCOMING):
            swept += await asyncio.to_thread(self._remove, f"{INCOMING}/{name}", before)
        for sha256 in await self.names():
            place = _place(sha256)
            if self._older(place, before) and not await is_referenced(sha256):
                swept += await asyncio.to_thread(self._remove, place, before)
        return swept

    def _remove(self, place: str, before: float) -> bool:
        """Looks at the age again under the lock: it may have been stored anew meanwhile."""
        with self._locked():
            if not self._older(place, before):
                return False
            os.unlink(place, dir_fd=self._root)
            return True

    def _older(self, place: str, before: float) -> bool:
        try:
            return os.stat(place, dir_fd=self._root, follow_symlinks=False).st_mtime < before
        except FileNotFoundError:
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process or thread at a time gives or takes a name."""
        file = os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=self._root)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _make(self, folder: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700, dir_fd=self._root)

    def _list(self, folder: str) -> list[str]:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root)
        try:
            return os.listdir(file)
        finally:
            os.close(file)

    def _sync(self, folder: str) -> None:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _place(sha256: str) -> str:
    if DIGEST.fullmatch(sha256) is None:
        raise ValueError("not a SHA-256")
    return f"{sha256[:2]}/{sha256}"


def _append(file: int, digest: hashlib._Hash, block: bytes) -> None:
    digest.update(block)
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


async def gathered(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream in blocks of at least BLOCK bytes, so that few threads are entered."""
    parts: list[bytes] = []
    size = 0
    async for part in content:
        parts.append(part)
        size += len(part)
        if size >= BLOCK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
