"""The ledger: small durable state that is not a FHIR resource.

Tokens, users, clients, jobs, model aliases, keys. Rows are ``(kind, key) -> value``
(a JSON object) with an optional expiry; a write may be part of a store's ``apply``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Value: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """``revision`` counts from 1 and is what ``cas`` compares. ``expires``: epoch seconds."""

    kind: str
    key: str
    value: Value
    revision: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class LedgerWrite:
    """``expect`` None: whatever is there; 0: must be absent; n: must be at revision n.

    ``value`` None deletes the row. A failed expectation makes the whole ``apply`` ``Stale``.
    ``fresh``: the value as JSON, of a row whose key nothing else has: a store need not look
    first, if it looks after all where the key is taken.
    """

    kind: str
    key: str
    value: Value | None
    expect: int | None = None
    expires: float | None = None
    fresh: bytes | None = None


class Ledger(Protocol):
    """Rows whose expiry has passed are absent to every method."""

    async def insert_unique(
        self, kind: str, key: str, value: Value, expires: float | None = None
    ) -> bool:
        """Insert unless the key is there; False if it was. Durable when it returns."""
        ...

    async def get(self, kind: str, key: str) -> Row | None: ...

    async def get_many(self, places: Sequence[tuple[str, str]]) -> list[Row | None]:
        """Rows by kind and key, in one round trip to the database. They are read with every
        request, so their values may be shared: nobody changes them.
        """
        ...

    async def cas(
        self, kind: str, key: str, value: Value | None, revision: int, expires: float | None = None
    ) -> bool:
        """Replace (or delete: value None) if still at ``revision``; False if it is not."""
        ...

    async def scan(self, kind: str, prefix: str = "") -> list[Row]:
        """All rows of a kind whose key starts with ``prefix``, by key."""
        ...

    async def expire(self) -> int:
        """Remove what has expired; the number of rows removed."""
        ...
