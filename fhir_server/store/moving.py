"""A whole store moved into another one, of the same or another kind.

Every version keeps its bytes, its index values, its place in the change feed and the number of
its resource's creation, so that histories, orders and cursors are what they were. The source is
read as of one point, while others may write to it. The target keeps a mark of how far it is and
cannot be used by a server before all of it has been compared.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from fhir_server.model.resource import Key
from fhir_server.store.blobs import Blob, Blobs, Damaged
from fhir_server.store.ledger import Row

BATCH: Final = 500
"""Ledger rows that are written at once."""
BLOB: Final = "blob"
"""Ledger rows that name the content of a version: ``sha256`` and ``size``."""

Tell: TypeAlias = Callable[[str, int, int], None]
"""What is being done, and how much of how much."""


class MoveError(Exception):
    """A move that cannot be made; its text is the one line that the user reads."""


class Version(NamedTuple):
    """``seq``: position in the change feed; ``rid``: number of creation of its resource.
    ``until``, ``closed``: position and lastUpdated of the version that superseded it, 0 for the
    current one. ``raw``: body and packed index values; ``split``: where the values begin.
    """

    seq: int
    rid: int
    key: Key
    version: int
    updated: int
    method: str
    until: int
    closed: int
    split: int
    raw: bytes

    @property
    def live(self) -> bool:
        """Current and not deleted."""
        return not self.until and self.method != "DELETE"


class Point(msgspec.Struct, frozen=True):
    """A moment of a store. ``identity``: of the database; ``seq``, ``rid``: the greatest numbers
    ever given; ``erased``: entries of its erase log.
    """

    identity: str
    seq: int
    rid: int
    erased: int


class Mark(msgspec.Struct, frozen=True):
    """How far a target is: the point that is being copied, the digest of its ledger, the
    position up to which versions are there. It is written with them.
    """

    point: Point
    ledger: str
    done: int = 0


class Side(Protocol):
    """What is read of a source, and of a target to compare."""

    def versions(self, since: int, point: Point) -> AsyncIterator[list[Version]]:
        """In order of the feed, behind ``since``, as of the point."""
        ...

    def rows(self) -> AsyncIterator[Row]:
        """The ledger, by kind and key; of a source as of its last point."""
        ...

    async def close(self) -> None: ...


class Source(Side, Protocol):
    async def point(self) -> Point:
        """Now."""
        ...


class Target(Side, Protocol):
    async def mark(self) -> Mark | None:
        """Of a move that has not ended. Raises MoveError: somebody else's data."""
        ...

    async def clear(self) -> None:
        """Empties what an earlier move has left."""
        ...

    async def add_rows(self, rows: list[Row]) -> None: ...

    async def begin(self, mark: Mark) -> None:
        """The ledger is there."""
        ...

    async def add(self, versions: list[Version], mark: Mark) -> None: ...

    async def end(self, point: Point, live: dict[str, int]) -> None:
        """All is there and compared: it is a store now. ``live``: current resources per type."""
        ...


class Moved(NamedTuple):
    """``versions``, ``live``: per type; ``rows``: of the ledger. ``resumed``: from which
    position an earlier move was continued.
    """

    point: Point
    versions: dict[str, int]
    live: dict[str, int]
    rows: int
    blobs: int
    resumed: int


class Sums:
    """Counts and digests of one side, per type."""

    def __init__(self) -> None:
        self._digests: dict[str, Any] = {}
        self.versions: Counter[str] = Counter()
        self.live: Counter[str] = Counter()

    def add(self, versions: Iterable[Version]) -> None:
        for v in versions:
            type_ = v.key.type
            digest = self._digests.get(type_)
            if digest is None:
                digest = self._digests[type_] = hashlib.blake2b(digest_size=16)
            head = (v.seq, v.rid, v.key.id, v.version, v.updated, v.method, v.until, v.closed)
            digest.update(msgspec.msgpack.encode((*head, v.split, len(v.raw))))
            digest.update(v.raw)
            self.versions[type_] += 1
            self.live[type_] += v.live

    def of(self, type_: str) -> tuple[int, int, str]:
        digest = self._digests.get(type_)
        return self.versions[type_], self.live[type_], digest.hexdigest() if digest else ""

    def differing(self, other: Sums) -> list[str]:
        types = sorted(self.versions.keys() | other.versions.keys())
        return [type_ for type_ in types if self.of(type_) != other.of(type_)]


async def move(
    source: Source,
    target: Target,
    places: Callable[[], tuple[Blobs, Blobs]] | None,
    forget: Collection[str],
    tell: Tell,
) -> Moved:
    """``places``: where contents are and where they go; None: they stay where they are.
    ``forget``: kinds of ledger rows that stay behind. Raises MoveError, Unavailable.
    """
    point, mark = await source.point(), await target.mark()
    if mark is not None and (mark.point.identity, mark.point.erased) != (
        point.identity,
        point.erased,
    ):
        mark = None
    if mark is None:
        await target.clear()
        mark = Mark(point, await _ledger(source, target, forget, tell))
        await target.begin(mark)
    resumed, point = mark.done, mark.point
    async for versions in source.versions(mark.done, point):
        mark = Mark(point, mark.ledger, versions[-1].seq)
        await target.add(versions, mark)
        tell("versions", mark.done, point.seq)
    blobs = 0 if places is None else await _contents(target, *places(), tell)
    sums = await _compared(source, target, point, tell)
    rows = Digest()
    async for row in target.rows():
        rows.add(row)
    if rows.text() != mark.ledger:
        raise MoveError("the ledger that has arrived differs from the one that was sent")
    await target.end(point, {type_: n for type_, n in sums.live.items() if n})
    return Moved(point, dict(sums.versions), dict(sums.live), rows.count, blobs, resumed)


class Digest:
    """Of a ledger."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.count = 0

    def add(self, row: Row) -> None:
        plain = (row.kind, row.key, row.value, row.revision, row.expires)
        self._digest.update(msgspec.json.encode(plain, order="sorted"))
        self.count += 1

    def text(self) -> str:
        return self._digest.hexdigest()


async def _ledger(source: Source, target: Target, forget: Collection[str], tell: Tell) -> str:
    digest, batch, now = Digest(), list[Row](), time.time()
    async for row in source.rows():
        if row.kind in forget or (row.expires is not None and row.expires <= now):
            continue
        digest.add(row)
        batch.append(row)
        if len(batch) == BATCH:
            await target.add_rows(batch)
            tell("ledger", digest.count, 0)
            batch = []
    if batch:
        await target.add_rows(batch)
    return digest.text()


async def _compared(source: Source, target: Target, point: Point, tell: Tell) -> Sums:
    """Both sides read once more, whole."""
    sent, arrived = Sums(), Sums()
    async for versions in source.versions(0, point):
        sent.add(versions)
        tell("comparing the source", versions[-1].seq, point.seq)
    async for versions in target.versions(0, point):
        arrived.add(versions)
        tell("comparing the target", versions[-1].seq, point.seq)
    wrong = sent.differing(arrived)
    if wrong:
        raise MoveError(
            f"what has arrived differs in {', '.join(wrong)}: something was erased from the source"
            " meanwhile, or the target was written to; run it again"
        )
    return arrived


async def _contents(target: Target, of: Blobs, to: Blobs, tell: Tell) -> int:
    """Every content that the ledger of the target names; how many were copied. The digest is
    checked when it is read and when it is stored."""
    wanted = {
        Blob(row.value["sha256"], row.value["size"])
        async for row in target.rows()
        if row.kind == BLOB
    }
    there = set(await to.names())
    left = sorted((b for b in wanted if b.sha256 not in there), key=lambda blob: blob.sha256)
    for number, blob in enumerate(left, 1):
        try:
            arrived = await to.put(await of.read(blob))
        except Damaged as damaged:
            raise MoveError(f"{damaged} or is not there") from None
        if arrived != blob:
            raise MoveError(f"blob {blob.sha256} was changed on its way")
        tell("contents", number, len(left))
    return len(left)
