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

    ``total``: None when it was not asked for or not exact. ``next``: cursor of the next
    page, None on the last. ``rest``: more is included than ``plan.INCLUDE_LIMIT``; a Search
    with it goes on there.
    """

    matches: Sequence[Stored]
    included: Sequence[Stored] = ()
    total: int | None = None
    next: Cursor | None = None
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions newest first; ``next`` is the ``before`` of the next page. ``total``: of one
    resource, else None if it is over ``plan.TOTAL_LIMIT``.
    """

    entries: Sequence[Stored]
    total: int | None = None
    next: int | None = None


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Committed:
    """Change-feed positions of the changes, in their order. Returned once durable."""

    seqs: tuple[int, ...] = field(default=())


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
