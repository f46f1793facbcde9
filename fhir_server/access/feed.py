"""Work that follows the change feed: one holder at a time, resumed where it was left.

Where a follower stands is a row of the ledger, with a lease: of several workers one follows, and
when it dies another goes on behind the last position that was left. What was being done then is
done again, so that followers do what they do idempotently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.access.engine import Engine
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Stored

KIND: Final = "feed"
LEASE: Final = 30_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the follower stands: everything up to ``seq`` is done."""

    seq: int
    revision: int


@dataclass(frozen=True, slots=True)
class Feed:
    """``name``: of the follower; ``holder``: of this process, unique."""

    engine: Engine
    name: str
    holder: str

    async def claim(self) -> Place | None:
        """The place, if nobody else holds it. A new follower begins with what comes next, and so
        does one whose place is not in this store, which was restored or copied."""
        ledger, now = self.engine.store.ledger, self.engine.now()
        row = await ledger.get(KIND, self.name)
        if row is None:
            begun = {"seq": await self.engine.store.position(), "holder": "", "until": 0}
            await ledger.insert_unique(KIND, self.name, begun)
            row = await ledger.get(KIND, self.name)
        if row is None or (row.value["holder"] != self.holder and row.value["until"] > now):
            return None
        if row.value["holder"] == self.holder and row.value["until"] - now > LEASE // 2:
            return Place(row.value["seq"], row.revision)
        seq = min(row.value["seq"], await self.engine.store.position())
        return await self._put(Place(seq, row.revision), seq)

    async def advance(self, place: Place, seq: int) -> Place | None:
        """Everything up to ``seq`` is done; None: another one has taken over."""
        return await self._put(place, seq)

    async def _put(self, place: Place, seq: int) -> Place | None:
        until = self.engine.now() + LEASE
        value = {"seq": seq, "holder": self.holder, "until": until}
        ledger = self.engine.store.ledger
        if not await ledger.cas(KIND, self.name, value, place.revision):
            return None
        return Place(seq, place.revision + 1)

    async def release(self) -> None:
        """Another one may go on at once."""
        ledger = self.engine.store.ledger
        row = await ledger.get(KIND, self.name)
        if row is not None and row.value["holder"] == self.holder:
            await ledger.cas(KIND, self.name, {**row.value, "until": 0}, row.revision)

    async def read(self, since: int, most: int) -> list[Stored]:
        """The next changes behind a position, in commit order."""
        found: list[Stored] = []
        if await self.engine.store.position() <= since:
            return found
        async for stored in self.engine.store.changes(since):
            found.append(stored)
            if len(found) >= most:
                break
        return found

    async def contents(self, stored: Stored) -> Sequence[Json]:
        """What a change is about: the version, and the one before it."""
        found = [] if stored.deleted else [loads(stored.body)]
        if stored.version > 1:
            former = await self.engine.store.version(stored.key, stored.version - 1)
            if former is not None and not former.deleted:
                found.append(loads(former.body))
        return found
