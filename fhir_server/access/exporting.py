"""What an export needs beside searches: cohorts, what was just being written, and deletions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from fhir_server.access.engine import Engine
from fhir_server.access.parting import was
from fhir_server.access.policy import PermitAll, Policy
from fhir_server.access.raising import labels_parted
from fhir_server.access.versions import living
from fhir_server.model.problem import Forbidden, NotFound
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TRUE, History, Predicate, both

PAGE: Final = 500
LATEST: Final = 60_000_000
"""Microseconds by which what is written last may be older than what is written before it."""


@dataclass(frozen=True, slots=True)
class Exporting:
    """One principal's. ``plain``: what scopes, role and relationship permit, without consents."""

    engine: Engine
    policy: Policy
    plain: Policy

    async def group(self, id_: str, version: int = 0) -> Stored:
        """A Group that the scopes open, whatever its members permit: its list is only used to
        look for each of them, which asks them. Without a scope for Groups it is named, not read,
        by who may see every patient, as bulk clients do. NotFound if it is absent or out of
        reach, Forbidden without either right. ``version`` 0: as it is now.
        """
        key, policy = Key("Group", id_), self.plain
        if not policy.allows("r", "Group"):
            if not (policy.allows("s", "Patient") and policy.sees("s", "Patient") == TRUE):
                raise Forbidden("not permitted: export a Group")
            policy = PermitAll()
        found = await living(self.engine, policy, "r", key)
        if found is not None and version not in (0, found.version):
            found = await self.engine.store.version(key, version)
        if found is None:
            raise NotFound(f"Group/{id_} is not known")
        return found

    async def straggler(self, position: int, moment: int) -> int | None:
        """When the earliest of those was updated that became durable behind ``position`` and are
        not later than ``moment``."""
        earliest: int | None = None
        async for stored in self.engine.store.changes(position):
            if stored.updated > moment + LATEST:
                break
            if stored.updated <= moment:
                earliest = min(stored.updated, earliest or stored.updated)
        return earliest

    async def deletions(
        self, wanted: Mapping[str, Predicate], since: int, as_of: int
    ) -> AsyncIterator[Key]:
        """What was deleted since a moment and is so at a point, the latest first.

        ``wanted``: by type, what the version before the deletion was like (without joins). What
        was hidden is left out.
        """
        before: int | None = as_of + 1
        told: set[Key] = set()
        while before is not None:
            history = History(since=since, count=PAGE, before=before)
            page = await self.engine.store.versions(history)
            for stored in page.entries:
                if not stored.deleted or stored.key.type not in wanted or stored.key in told:
                    continue
                if await self._shown(stored, wanted[stored.key.type], as_of):
                    if stored.version > FIRST_AGAIN:
                        told.add(stored.key)
                    yield stored.key
            before = page.next

    async def _shown(self, gone: Stored, wanted: Predicate, as_of: int) -> bool:
        again = await self.engine.store.version(gone.key, gone.version + 1)
        if again is not None and again.seq <= as_of:
            return False
        last = await self.engine.store.version(gone.key, gone.version - 1)
        if last is None or last.deleted:
            return False
        seen = both(self.policy.sees("s", gone.key.type), wanted)
        more = await labels_parted(self.engine, gone.key)
        return was(self.engine, seen, last, more)


FIRST_AGAIN: Final = 3
"""A deletion of a later version may not be the only one of its resource."""
