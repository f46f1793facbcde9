"""Initial access tokens of dynamic registration (RFC 7591, section 3): each registers one client,
with no more scope than it was made for.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.auth.records import Records, digest, new_secret

KIND: Final = "invitation"
MINUTES: Final = 60 * 24
SCOPE: Final = (
    "openid fhirUser launch launch/patient launch/encounter offline_access online_access"
    " patient/*.cruds"
)
"""What an app may have without more being said: never user/ or system/ scopes."""


class Invitations:
    """Rows of tokens that were not used yet."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def make(self, scope: str = SCOPE, minutes: int = MINUTES) -> str:
        """A new token; only its hash is kept."""
        token, expires = new_secret(), self._records.now() + minutes * 60
        write = LedgerWrite(KIND, digest(token), {"scope": scope}, expect=0, expires=expires)
        await self._records.commit(write)
        return token

    async def find(self, token: str) -> Row | None:
        return await self._records.get(KIND, digest(token)) if token else None


def spending(row: Row) -> LedgerWrite:
    """What makes the token useless, once."""
    return LedgerWrite(KIND, row.key, None, row.revision)
