"""Rows of the ledger that say who may come in, written together or not at all.

The policy epoch is a row whose revision grows with every change of who may do what (users,
clients, relationships, revocations). What was decided under one epoch holds until the next.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from fhir_server.access.commit import Commit
from fhir_server.access.consent.epoch import EPOCH, MARK, POLICY
from fhir_server.access.ports import Ledger, LedgerWrite, Row

ATTEMPTS: Final = 32


class Records:
    """``now``: epoch seconds."""

    def __init__(self, ledger: Ledger, commit: Commit, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._commit = commit
        self.now = now

    async def get(self, kind: str, key: str) -> Row | None:
        return await self._ledger.get(kind, key)

    async def scan(self, kind: str, prefix: str = "") -> list[Row]:
        return await self._ledger.scan(kind, prefix)

    async def commit(self, *writes: LedgerWrite) -> bool:
        """For what does not change who may do what: new tokens, codes, sessions."""
        return await self._commit(writes)

    async def commit_policy(self, *writes: LedgerWrite) -> bool:
        """A change of who may do what; it acts on the next request, in every worker."""
        return await self._commit((*writes, MARK))

    async def get_with_epoch(self, kind: str, key: str) -> tuple[Row | None, int]:
        """A row, and the epoch at that time."""
        row, epoch = await self._ledger.get_many(((kind, key), (POLICY, EPOCH)))
        return row, 0 if epoch is None else epoch.revision

    async def epoch(self) -> int:
        row = await self._ledger.get(POLICY, EPOCH)
        return 0 if row is None else row.revision


def digest(secret: str) -> str:
    """What is stored of a token, code or cookie of 256 random bits: SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """256 random bits, safe in URLs."""
    return secrets.token_urlsafe(32)
