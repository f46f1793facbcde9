"""Opaque access tokens: random, stored as a hash, looked up at every request."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from fhir_server.access.gate import Grant
from fhir_server.access.ports import Ledger

KIND: Final = "token"


class Tokens:
    """Access tokens in the ledger. ``now``: epoch seconds."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    async def issue(
        self, *, scope: str, minutes: int, client: str, user: str = "", patient: str | None = None
    ) -> str:
        """A new token (256 random bits); only its hash is kept."""
        token = secrets.token_urlsafe(32)
        value = {"scope": scope, "client": client, "user": user, "patient": patient}
        expires = self._now() + minutes * 60
        await self._ledger.insert_unique(KIND, digest(token), value, expires)
        return token

    async def verify(self, token: str) -> Grant | None:
        """The grant of a token, None if it is unknown, expired or revoked."""
        return await self.grant(digest(token))

    async def grant(self, key: str) -> Grant | None:
        """The grant by its id, for work that goes on without the token."""
        row = await self._ledger.get(KIND, key)
        if row is None:
            return None
        value = row.value
        return Grant(
            id=key,
            client=value["client"],
            user=value["user"],
            scope=value["scope"],
            patient=value["patient"],
            revision=row.revision,
        )

    async def revoke(self, token: str) -> bool:
        """True if the token was valid until now."""
        key = digest(token)
        row = await self._ledger.get(KIND, key)
        return row is not None and await self._ledger.cas(KIND, key, None, row.revision)


def digest(token: str) -> str:
    """What is stored of a token: SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()
