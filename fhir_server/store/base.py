"""What every store of resources does.

``memory.py`` is the executable specification; the contract tests run on every store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fhir_server.model.resource import Key, Stored
from fhir_server.search.explain import Trace
from fhir_server.search.plan import Cursor, History, Rest, Scan, Search
from fhir_server.search.values import IndexValues
from fhir_server.store.ledger import Ledger, LedgerWrite


@dataclass(frozen=True, slots=True)
class Page:
    """One page of matches in order, then what was included (each resource once).

    ``total``: None when it was not asked for or is not known; exact but for an "estimate".
    ``next``: cursor of the next page, None on the last. ``rest``: more is included than
    ``plan.INCLUDE_LIMIT``; a Search with it goes on there.
    """

    matches: Sequence[Stored]
    included: Sequence[Stored] = ()
    total: int | None = None
    next: Cursor | None = None
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions newest first; ``next`` is the ``before`` of the next page. ``total``: of one
    resource and where no versions are asked for (``History.count`` 0), else None if it is over
    ``plan.TOTAL_LIMIT``.
    """

    entries: Sequence[Stored]
    total: int | None = None
    next: int | None = None


@dataclass(slots=True)
class Change:
    """One new version, fully prepared: bytes with id and meta in place, index values.

    ``expect``: the version that must be current when it is applied (0: the id was never
    used). A deletion has an empty body and no values. ``version`` is ``expect + 1``.
    """

    key: Key
    version: int
    updated: int
    body: bytes
    values: IndexValues | None
    method: str
    expect: int


@dataclass(frozen=True, slots=True)
class Reindexed:
    """Fresh index values of one version."""

    key: Key
    version: int
    values: IndexValues


@dataclass(frozen=True, slots=True)
class Guard:
    """What a write relied on: ``scan`` finds exactly these ids when the write commits.

    Conditional interactions and conditional references are decided by a search that the
    store repeats inside the transaction.
    """

    scan: Scan
    ids: tuple[str, ...]


@dataclass(slots=True)
class ChangeSet:
    """Everything of one request that commits together or not at all."""

    changes: tuple[Change, ...] = ()
    guards: tuple[Guard, ...] = ()
    ledger: tuple[LedgerWrite, ...] = ()


class Stale(Exception):
    """A version or guard no longer holds: nothing was written; look again and retry.

    ``keys``: the resources whose version moved (empty when a guard failed).
    """

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        super().__init__("stale")
        self.keys = keys


@dataclass(slots=True)
class Committed:
    """Change-feed positions of the changes, in their order. Returned once durable."""

    seqs: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Erasure:
    """What goes for good of one resource.

    ``expect``: the version that must be current (deletions count); 0: the id was never used,
    and there is nothing to do. ``versions`` None: the whole resource, so that its id is as one
    that was never used; else these versions, of which none is the current one. What is not
    there is passed over.
    """

    key: Key
    expect: int
    versions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.versions is not None and self.expect in self.versions:
            raise ValueError("the current version goes with the whole resource")


@dataclass(frozen=True, slots=True)
class EraseSet:
    """Everything of one erase that commits together or not at all. No key comes twice."""

    erasures: tuple[Erasure, ...]
    ledger: tuple[LedgerWrite, ...] = ()


@dataclass(frozen=True, slots=True)
class Erased:
    """How many versions went of each erasure, in their order. Returned once durable."""

    versions: tuple[int, ...] = ()


class Store(Protocol):
    """A store of resources. All methods may be called concurrently on one event loop."""

    @property
    def ledger(self) -> Ledger:
        """State that is not a resource, in the same database."""
        ...

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        """Evaluate a plan. A single ``IdIn`` of one id is the fast road of read.

        ``trace``: what is noted on the way, for ``_explain``.
        """
        ...

    async def current(self, keys: Sequence[Key]) -> list[Stored | None]:
        """The newest version of each, deletions included; None where the id was never used.

        For the write path and the gate only: it is not restricted.
        """
        ...

    async def version(self, key: Key, version: int) -> Stored | None:
        """One version; deletions included."""
        ...

    async def versions(self, history: History) -> Versions: ...

    async def apply(self, change_set: ChangeSet) -> Committed:
        """Commit, durably, or raise ``Stale`` and change nothing."""
        ...

    async def erase(self, erase_set: EraseSet) -> Erased:
        """Remove for good, durably, or raise ``Stale`` and change nothing.

        Afterwards nothing here tells of what was erased: no body, no version, no entry of any
        index (texts too), no place in the change feed or in a history, no count; ``scrub``
        cleans the files. Positions of the change feed and creation numbers are never used
        again, so cursors and ``as_of`` stay what they are; ``position`` never goes back. A
        version that stays counts as current until the next one that stays. A new resource with
        the id begins with version 1.

        What the ledger says of a resource (the blobs it names, the erase log) is written by who
        erases, in ``erase_set.ledger``. References to what was erased stay as they are.
        """
        ...

    async def scrub(self) -> bool:
        """After erases: leave nothing in the store's own files of what was removed from them.

        It may take long and hold up writes. False if it is not complete, because somebody still
        reads from an older state: do it again later.
        """
        ...

    async def formerly(self, patient: str) -> dict[Key, tuple[int, ...]]:
        """The versions that are not current any more and were in this patient's compartment
        (``IndexValues.patients``), by resource, in ascending order; deletions are in none.

        It may look at every such version of the store: for erasing, not for serving.
        """
        ...

    async def reindex(self, fresh: Sequence[Reindexed]) -> int:
        """Replace index values without making a version; how many were not as they should be.

        A version that is no longer current, or is a deletion, is left alone: who wrote the
        newer one has extracted its values. What the index itself has lost is put back.
        """
        ...

    def changes(self, since: int) -> AsyncIterator[Stored]:
        """The change feed from behind position ``since``, in commit order, up to now."""
        ...

    async def position(self) -> int:
        """The newest position of the change feed (for ``as_of`` and incremental readers)."""
        ...

    async def trouble(self) -> str | None:
        """Why writes are refused at present, for the operator; None when they are not. It
        looks again itself, so it is over without a client having to write.
        """
        ...

    async def counts(self) -> dict[str, int]:
        """Current resources per type, from counters kept in the transaction."""
        ...

    async def close(self) -> None: ...
