"""Concepts that lie beside their CodeSystem: in a Binary that the resource names.

The Binary goes the way of every other (stored, backed up, copied, erased, one for all hosts); its
content, unpacked, is kept in a file of this host, named by the digest of what was packed. Only a
content that an import made is ever opened: the ledger has a row for each.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import zstandard

from fhir_server.access.drafts import Draft
from fhir_server.access.ports import Ledger, LedgerWrite
from fhir_server.access.session import Session
from fhir_server.model.problem import Problem, ServerError
from fhir_server.model.resource import Key, Stored
from terminology.filed import Damaged, Filed
from terminology.service import Json

CONCEPTS: Final = "urn:vehr:extension:concepts"
"""The extension of a CodeSystem of content ``not-present``: a reference to the Binary."""
KIND: Final = "concepts"
"""Of the ledger's rows, by the digest of a content that an import made."""
MEDIA: Final = "application/vnd.vehr.concepts+zstd"
OPEN: Final = 16
"""Files that are kept open at most."""
BLOCK: Final = 1 << 20


class ConceptFiles:
    """``folder``: where the files are kept; None: nowhere beyond this process."""

    def __init__(self, folder: Path | None, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._open: dict[str, Filed] = {}
        self._lock = asyncio.Lock()

    async def of(self, session: Session, code_system: Json) -> Filed | None:
        """None if the resource names none, or none that this session may read. ServerError if it
        is damaged."""
        key = binary_of(code_system)
        if key is None:
            return None
        try:
            stored = await session.read(key)
            content = await session.content(stored)
        except Problem as problem:
            if problem.status in (403, 404, 410):
                return None
            raise
        if content is None or await self._ledger.get(KIND, content.blob.sha256) is None:
            return None
        name = content.blob.sha256
        async with self._lock:
            found = self._open.pop(name, None)
            if found is None:
                path = self._path(name)
                if not path.exists():
                    await unpacked(await content.read(), path)
                found = await asyncio.to_thread(_opened, path)
            self._open[name] = found
            if len(self._open) > OPEN:
                del self._open[next(iter(self._open))]
        return found

    def _path(self, name: str) -> Path:
        if self._folder is None:
            self._own = tempfile.TemporaryDirectory(prefix="vehr-concepts-")
            self._folder = Path(self._own.name)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder / name


def binary_of(code_system: Json) -> Key | None:
    """Where the concepts of a resource lie."""
    for one in code_system.get("extension", ()):
        if one.get("url") == CONCEPTS:
            reference: str = one.get("valueReference", {}).get("reference", "")
            type_, _, id_ = reference.partition("/")
            return Key(type_, id_) if type_ == "Binary" and id_ else None
    return None


def beside(code_system: Json, binary: str, count: int) -> dict[str, Any]:
    """The resource whose concepts lie in this Binary."""
    named = {"url": CONCEPTS, "valueReference": {"reference": f"Binary/{binary}"}}
    kept = {k: v for k, v in code_system.items() if k not in ("concept", "extension")}
    return {**kept, "extension": [named], "content": "not-present", "count": count}


async def publish(session: Session, code_system: Json, path: Path, count: int) -> Stored:
    """Both resources in one commit, new or as the next version of what was imported before."""
    named = f"{code_system['url']}|{code_system.get('version', '')}"
    id_ = f"concepts-{hashlib.sha256(named.encode()).hexdigest()[:32]}"
    session.allow("u", "CodeSystem")
    binary = {
        "resourceType": "Binary",
        "id": id_,
        "contentType": MEDIA,
        "securityContext": {"reference": f"CodeSystem/{id_}"},
    }
    blob = await session.upload("u", packed(path))
    resource = {**beside(code_system, id_, count), "id": id_}
    drafts = [
        Draft("PUT", Key("CodeSystem", id_), resource),
        Draft("PUT", Key("Binary", id_), binary, blob=blob),
    ]
    written = await session.write(drafts, (LedgerWrite(KIND, blob.sha256, {"of": named}),))
    stored = written[0].stored
    assert stored is not None
    return stored


async def packed(path: Path) -> AsyncIterator[bytes]:
    """A file of concepts as the content of its Binary."""
    packer = zstandard.ZstdCompressor(level=9, threads=-1).compressobj()
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            if out := await asyncio.to_thread(packer.compress, block):
                yield out
    yield packer.flush()


async def unpacked(content: AsyncIterator[bytes], path: Path) -> None:
    """The file at ``path``: whole, or not there."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        with part.open("xb") as file:
            async for block in content:
                file.write(await asyncio.to_thread(unpacker.decompress, block))
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        part.replace(path)
    except zstandard.ZstdError as error:
        raise ServerError("the stored concepts cannot be unpacked", code="exception") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _opened(path: Path) -> Filed:
    try:
        return Filed(path)
    except Damaged as damage:
        path.unlink(missing_ok=True)
        raise ServerError("the stored concepts are damaged", code="exception") from damage
