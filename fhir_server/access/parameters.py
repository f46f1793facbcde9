"""The SearchParameters that users have posted or packages hold, kept in step with the store.

The resources themselves are the truth: who starts reads them, and one ledger row counts
their changes, so that every process notices a change before its next search or write. A
parameter can be searched by once a reindex has covered its type; the mark of that names the
unbroken run of versions for which it was done, so it never holds for another meaning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import structlog

from fhir_server.access.conformance.epoch import CHANGES, PARAMETERS
from fhir_server.access.conformance.epoch import SEARCHED as KIND
from fhir_server.access.conformance.packages import Packages
from fhir_server.access.conformance.searching import Offered, Told, offered, told
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem
from fhir_server.model.resource import Key, Stored
from fhir_server.search.custom import Custom, definition_of, in_force, same_meaning
from fhir_server.search.definable import check, is_published
from fhir_server.search.extended import ExtendedSchema, types_of
from fhir_server.search.plan import History, Scan, Search, TokenIs
from fhir_server.store.base import ChangeSet, Store
from fhir_server.store.ledger import LedgerWrite

log = structlog.get_logger("vehr.search")

TYPE: Final = "SearchParameter"
NOTICED: Final = frozenset({TYPE, "CodeSystem"})
"""Types whose resources say how searches are read."""
INDEXED: Final = "indexed/"
PAGE: Final = 200


class Candidate(NamedTuple):
    """What may come into force, in the order in which it came. ``posted``: the SearchParameter
    with this id and version; else one of a package."""

    since: int
    id: str
    version: int
    posted: Json | None
    offered: Offered | None = None


class PostedParameters:
    """Those of one store, and of what is installed there. ``schema``: what is revised when they
    change."""

    def __init__(
        self, schema: ExtendedSchema, store: Store, packages: Packages | None = None
    ) -> None:
        self._schema = schema
        self._store = store
        self._packages = packages
        self._seen = -1
        self.refused: tuple[str, ...] = ()
        """Active posted ones that are not in force, and why."""
        self.installed: tuple[Told, ...] = ()
        """What became of those of packages."""
        self._loading = asyncio.Lock()

    @property
    def revision(self) -> int:
        return self._schema.revision

    @property
    def mark(self) -> LedgerWrite:
        """Tells every process that they change; goes with the write that changes them."""
        return PARAMETERS

    def check(self, key: Key, resource: Json) -> None:
        """Raises Unprocessable for a SearchParameter that cannot be in force."""
        check(self._schema.definitions, resource, key.id, self._schema.custom)

    async def refresh(self) -> None:
        """Look whether they have changed, and read them anew if so."""
        if await self._counted() == self._seen:
            return
        async with self._loading:
            counted = await self._counted()
            if counted != self._seen:
                self._schema.cases = {}
                self._schema.revise(await self._load())
                self._seen = counted

    async def _counted(self) -> int:
        row = await self._store.ledger.get(KIND, CHANGES)
        return row.revision if row is not None else 0

    async def _load(self) -> tuple[Custom, ...]:
        """In the order in which they came into force: of two with one code the first counts."""
        rows = await self._store.ledger.scan(KIND, INDEXED)
        indexed = {row.key.removeprefix(INDEXED) for row in rows}
        found: list[Candidate] = []
        for stored in await self._active():
            resource = loads(stored.body)
            if not is_published(self._schema.definitions, definition_of(resource)):
                since = await self._since(stored, resource)
                found.append(Candidate(since.updated, stored.key.id, since.version, resource))
        archives = await self._packages.archives() if self._packages is not None else []
        found += (Candidate(one.package.since, one.name, 0, None, one) for one in offered(archives))
        found.sort(key=lambda one: one[:3])
        if archives:
            return await asyncio.to_thread(self._judged, found, indexed)
        return self._judged(found, indexed)

    def _judged(self, found: Iterable[Candidate], indexed: set[str]) -> tuple[Custom, ...]:
        """Those that are in force; why the others are not is kept."""
        custom: list[Custom] = []
        refused: list[str] = []
        installed: list[Told] = []
        for _, id_, version, resource, offer in found:
            if offer is not None:
                installed.append(told(self._schema.definitions, offer, custom, indexed))
                if (made := installed[-1].custom) is not None:
                    custom.append(made)
                continue
            assert resource is not None
            try:
                check(self._schema.definitions, resource, id_, custom)
            except Problem as problem:
                refused.append(f"{TYPE}/{id_}: {problem}")
                log.warning("a SearchParameter is not in force", id=id_, reason=str(problem))
                continue
            custom.append(self._custom(resource, f"{id_}.{version}", indexed))
        self.refused, self.installed = tuple(refused), tuple(installed)
        return tuple(custom)

    async def _active(self) -> list[Stored]:
        found: list[Stored] = []
        after = None
        while True:
            scan = Scan(TYPE, TokenIs("status", None, "active"))
            page = await self._store.run(Search((scan,), count=PAGE, total="none", after=after))
            found += page.matches
            if page.next is None:
                return found
            after = page.next

    async def _since(self, stored: Stored, resource: Json) -> Stored:
        """The first of the versions, without a gap, that mean what the current one means."""
        first, meaning, before = stored, definition_of(resource), None
        while True:
            history = History(stored.key.type, stored.key.id, count=PAGE, before=before)
            page = await self._store.versions(history)
            for entry in page.entries:
                old = None if entry.deleted else loads(entry.body)
                if (
                    old is None
                    or not in_force(old)
                    or not same_meaning(definition_of(old), meaning)
                ):
                    return first
                first = entry
            if page.next is None:
                return first
            before = page.next

    def _custom(self, resource: Json, identity: str, indexed: set[str]) -> Custom:
        definition = definition_of(resource)
        types = types_of(self._schema.definitions, definition.bases)
        return Custom(
            definition,
            identity,
            types,
            frozenset(type_ for type_ in types if f"{type_}/{identity}" in indexed),
        )

    def waiting(self, types: Iterable[str]) -> dict[str, list[str]]:
        """type -> identities of the parameters on it: what a reindex that starts now covers."""
        return {
            type_: [one.identity for one in self._schema.custom if type_ in one.types]
            for type_ in types
        }

    def behind(self, package: str) -> tuple[str, ...]:
        """The types that a reindex has to cover before the parameters of a package are usable."""
        made = (one.custom for one in self.installed if one.package == package)
        return tuple(sorted({type_ for one in made if one for type_ in one.types - one.indexed}))

    async def covered(self, marks: Mapping[str, Iterable[str]]) -> None:
        """The resources of these types all have the values of these parameters."""
        rows = tuple(
            LedgerWrite(KIND, f"{INDEXED}{type_}/{identity}", {})
            for type_, identities in marks.items()
            for identity in identities
        )
        if rows:
            await self._store.apply(ChangeSet(ledger=(*rows, self.mark)))
            await self.refresh()
