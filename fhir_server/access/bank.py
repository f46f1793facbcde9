"""The clinical data bank: what researchers may do there, and what its pipeline reads of the record.

Resources of the bank are nobody's any more: there are no compartments to reach by, no care
relationships and no consents, which were asked when they were taken in. Who is a researcher reads
all of it, and nobody writes there by HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from fhir_server.access.engine import Engine
from fhir_server.access.policy import BINARY, CompileFilter
from fhir_server.access.principal import Principal
from fhir_server.access.roles import AUDIT
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import FALSE, TRUE, Any, Predicate

RESEARCHER: Final = "researcher"
SETTLED: Final = 60_000_000
"""Microseconds in which an erase is done."""
CLOSED: Final = frozenset({AUDIT, BINARY, "Consent"})


class BankPolicy:
    """Read and search by ``user/`` scopes, for users whose role is researcher; else nothing."""

    whole = erases = audits = False

    def __init__(
        self,
        principal: Principal,
        compartment: Mapping[str, tuple[str, ...]],
        compile_filter: CompileFilter,
    ) -> None:
        standing = principal.standing
        here = standing is not None and standing.role == RESEARCHER
        self._scopes = [s for s in principal.scopes if here and s.context == "user"]
        self._compile = compile_filter

    def allows(self, letter: str, type_: str) -> bool:
        if letter not in "rs" or type_ in CLOSED:
            return False
        return any(scope.covers(type_, letter) for scope in self._scopes)

    def sees(self, letter: str, type_: str) -> Predicate:
        if not self.allows(letter, type_):
            return FALSE
        covering = [scope for scope in self._scopes if scope.covers(type_, letter)]
        if any(not scope.filters for scope in covering):
            return TRUE
        return Any(tuple(self._compile(type_, scope.filters) for scope in covering))

    def exists(self, type_: str) -> Predicate:
        return TRUE if self._scopes else FALSE

    def inside(self, type_: str) -> Predicate:
        return TRUE

    def maskable(self, type_: str) -> frozenset[str]:
        return frozenset()

    def binary(self, letter: str) -> Predicate:
        return FALSE


@dataclass(frozen=True, slots=True)
class Feed:
    """What has changed in the record. For the pipeline alone: it is not restricted."""

    engine: Engine

    async def position(self) -> int:
        return await self.engine.store.position()

    async def changed(self, since: int, until: int) -> AsyncIterator[Stored]:
        """What was written between two positions; of a deletion what was there before it, and
        itself."""
        async for stored in self.engine.store.changes(since):
            if stored.seq > until:
                return
            if stored.deleted:
                before = await self.engine.store.version(stored.key, stored.version - 1)
                if before is not None and not before.deleted:
                    yield before
            yield stored

    async def erased(self, since: str) -> list[Key]:
        """What was erased since a moment (an instant), or shortly before, and is not there again:
        an erase is dated before it is done."""
        log = self.engine.erase_log
        entries = log.entries() if log is not None else []
        from_ = parse_instant(since) - SETTLED
        keys = [Key(one.type, one.id) for one in entries if parse_instant(one.at) >= from_]
        current = await self.engine.store.current(keys) if keys else []
        return [
            key
            for key, stored in zip(keys, current, strict=True)
            if stored is None or stored.deleted
        ]
