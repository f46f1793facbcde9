"""The files of jobs: one folder per job under the data directory.

A file is durable when ``write`` returns and has a random stored name, so that a holder that
lost its lease can never touch what its successor wrote. Files hold patient data: only the
server's own user may read them.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import BinaryIO, Final

from fhir_server.jobs.model import JobFile

CHUNK: Final = 192 * 1024
"""A multiple of three, so that chunks can be put in base64 one by one."""

ORPHAN_SECONDS: Final = 3600
"""Age from which a folder without a job is removed; a job's row follows its first file."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_WORD: Final = re.compile(rb"[A-Za-z0-9\-.]+")
_ID: Final = re.compile(r"[0-9a-f]{16,64}")

Content = bytes | AsyncIterator[bytes]


class JobFiles:
    """``root`` is created with the first file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(
        self, id_: str, name: str, content: Content, content_type: str = "application/fhir+ndjson"
    ) -> JobFile:
        """A new durable file; ValueError for a name that is not one."""
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"not a name of a job's file: {name!r}")
        path = self._folder(id_) / f"{secrets.token_hex(8)}-{name}"
        file = await asyncio.to_thread(_create, path)
        size = 0
        try:
            if isinstance(content, bytes):
                size = await asyncio.to_thread(file.write, content)
            else:
                async for chunk in content:
                    size += await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_settle, file, path)
        finally:
            file.close()
        return JobFile(name, path.name, size, content_type)

    async def read(self, id_: str, file: JobFile) -> AsyncIterator[bytes]:
        """The content in chunks; FileNotFoundError if it was removed meanwhile."""
        opened = await asyncio.to_thread((self._folder(id_) / file.stored).open, "rb")
        try:
            while chunk := await asyncio.to_thread(opened.read, CHUNK):
                yield chunk
        finally:
            opened.close()

    async def content(self, id_: str, file: JobFile) -> bytes:
        return await asyncio.to_thread((self._folder(id_) / file.stored).read_bytes)

    async def names(self, id_: str, files: Collection[JobFile], ids: Collection[str]) -> bool:
        """Does one of these files name one of these ids of resources?"""
        wanted = frozenset(name.encode() for name in ids)
        paths = [self._folder(id_) / file.stored for file in files]
        return await asyncio.to_thread(lambda: any(_names(path, wanted) for path in paths))

    async def remove(self, id_: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder(id_), ignore_errors=True)

    async def keep(self, id_: str, files: Collection[JobFile]) -> None:
        """Remove what a crashed or failed attempt left beside ``files``."""
        await asyncio.to_thread(_prune, self._folder(id_), {file.stored for file in files})

    async def sweep(self, known: Collection[str]) -> int:
        """Remove the folders of jobs that are not ``known`` any more; how many."""
        return await asyncio.to_thread(_sweep, self._root, known, time.time() - ORPHAN_SECONDS)

    def _folder(self, id_: str) -> Path:
        if _ID.fullmatch(id_) is None:
            raise ValueError("not the id of a job")
        return self._root / id_


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _settle(file: BinaryIO, path: Path) -> None:
    """On the disk: the bytes, the name and the folder's own name."""
    file.flush()
    os.fsync(file.fileno())
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _names(path: Path, wanted: Collection[bytes]) -> bool:
    """Looks at every word that could be an id."""
    rest = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                words = _WORD.findall(rest + chunk)
                if not frozenset(wanted).isdisjoint(words):
                    return True
                rest = words[-1] if words and chunk.endswith(words[-1]) else b""
    except FileNotFoundError:
        return False
    return False


def _prune(folder: Path, stored: Collection[str]) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in stored:
                path.unlink(missing_ok=True)
        if not stored:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path, known: Collection[str], before: float) -> int:
    count = 0
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.name in known or _ID.fullmatch(folder.name) is None:
            continue
        try:
            old = folder.stat().st_mtime < before
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)
            count += 1
    return count
