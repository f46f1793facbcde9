"""The stores and the places of contents that a move names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeAlias

from fhir_server.config_values import Bucket
from fhir_server.model.problem import Unavailable
from fhir_server.store.blobs import Blobs, LocalBlobs
from fhir_server.store.moving import Moved, MoveError, Source, Target, Tell, move
from fhir_server.store.sqlite.moving import SqliteSource, SqliteTarget

SQLITE: Final = "sqlite:"
MOST_BLOB: Final = 1 << 40
"""Bytes: what has been stored once is not refused."""
Place: TypeAlias = Path | Bucket


async def open_source(url: str) -> Source:
    """``url``: ``sqlite:DIRECTORY`` or ``mongodb://HOST/NAME``. Raises MoveError, Unavailable."""
    if url.startswith(SQLITE):
        return SqliteSource(Path(url.removeprefix(SQLITE)))
    try:
        from fhir_server.store.mongo.moving import open_source as open_mongo
    except ImportError:
        raise Unavailable("a MongoDB store needs its driver: install vehr[mongo]") from None
    return await open_mongo(url)


async def open_target(url: str) -> Target:
    """As ``open_source``; it must be empty, or what an earlier move has left."""
    if url.startswith(SQLITE):
        return SqliteTarget(Path(url.removeprefix(SQLITE)))
    try:
        from fhir_server.store.mongo.moving import open_target as open_mongo
    except ImportError:
        raise Unavailable("a MongoDB store needs its driver: install vehr[mongo]") from None
    return await open_mongo(url)


def open_contents(place: Place, spool: Path) -> Blobs:
    """``spool``: a folder for contents on their way to or from a bucket."""
    if isinstance(place, Path):
        return LocalBlobs(place, MOST_BLOB)
    try:
        from fhir_server.store.s3 import S3Blobs
    except ImportError:
        raise Unavailable("an object store needs its client: install vehr[s3]") from None
    return S3Blobs(place, spool, MOST_BLOB)


async def copy(
    urls: tuple[str, str],
    contents: tuple[Place | None, Place | None],
    forget: Collection[str],
    spool: Path,
    tell: Tell,
) -> Moved:
    """``contents``: None is the folder ``blobs`` of a data directory. Raises MoveError,
    Unavailable.
    """
    if urls[0] == urls[1]:
        raise MoveError("source and target are the same")
    source = await open_source(urls[0])
    try:
        target = await open_target(urls[1])
        try:
            of = contents[0] or _beside(urls[0])
            to = contents[1] or _arriving(urls[1], target)

            def places() -> tuple[Blobs, Blobs]:
                return open_contents(of, spool), open_contents(to, spool)

            return await move(source, target, None if of == to else places, forget, tell)
        finally:
            await target.close()
    finally:
        await source.close()


def _arriving(url: str, target: Target) -> Path:
    return target.part / "blobs" if isinstance(target, SqliteTarget) else _beside(url)


def _beside(url: str) -> Path:
    if not url.startswith(SQLITE):
        raise MoveError("say where the contents of the MongoDB store lie")
    return Path(url.removeprefix(SQLITE)) / "blobs"
