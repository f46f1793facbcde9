"""Web sessions: kept on the server, known to the browser by an opaque cookie.

They end after ``IDLE`` seconds without a request, and in any case after ``LONGEST``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fhir_server.access.ports import LedgerWrite
from fhir_server.auth.records import Records, digest, new_secret
from fhir_server.auth.users import User, Users

KIND: Final = "web-session"
IDLE: Final = 15 * 60
LONGEST: Final = 12 * 3600
NOTED: Final = 60
"""Seconds after which the last use is written again."""


@dataclass(frozen=True, slots=True)
class WebSession:
    """``id``: the hash of the cookie. ``since``: when the user signed in, epoch seconds."""

    id: str
    user: User
    since: float


class WebSessions:
    """Session rows."""

    def __init__(self, records: Records, users: Users) -> None:
        self._records = records
        self._users = users

    async def begin(self, user: User) -> str:
        """A new cookie, which was never seen before the login."""
        cookie, now = new_secret(), self._records.now()
        value = {"user": user.name, "since": now, "seen": now}
        await self._records.commit(LedgerWrite(KIND, digest(cookie), value, 0, now + IDLE))
        return cookie

    async def find(self, cookie: str) -> WebSession | None:
        """The living session of a cookie; using it keeps it alive."""
        row = await self._records.get(KIND, digest(cookie)) if cookie else None
        if row is None:
            return None
        user = await self._users.find(row.value["user"])
        now, since = self._records.now(), row.value["since"]
        if user is None or user.disabled or now >= since + LONGEST:
            return None
        if now - row.value["seen"] >= NOTED:
            expires = min(now + IDLE, since + LONGEST)
            value = row.value | {"seen": now}
            await self._records.commit(LedgerWrite(KIND, row.key, value, row.revision, expires))
        return WebSession(row.key, user, since)

    async def lives(self, id_: str) -> bool:
        """Is the session of this id alive? Asking does not prolong it."""
        row = await self._records.get(KIND, id_)
        return row is not None

    async def end(self, id_: str) -> None:
        await self._records.commit(ending(id_))


def ending(id_: str) -> LedgerWrite:
    """What ends the session of this id."""
    return LedgerWrite(KIND, id_, None)
