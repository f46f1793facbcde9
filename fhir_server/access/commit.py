"""Rows of the ledger alone, in one commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fhir_server.store.base import ChangeSet, Stale, Store
from fhir_server.store.ledger import LedgerWrite

Commit = Callable[[tuple[LedgerWrite, ...]], Awaitable[bool]]
"""All rows or none, durable; False and nothing written if an expectation failed."""


def committing(store: Store) -> Commit:
    """``Commit`` over a store."""

    async def commit(writes: tuple[LedgerWrite, ...]) -> bool:
        try:
            await store.apply(ChangeSet(ledger=writes))
        except Stale:
            return False
        return True

    return commit
