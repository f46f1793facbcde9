"""The CodeSystems, ValueSets and ConceptMaps of this server as a caller may see them, then
those of installed packages, then those of FHIR itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from fhir_server.access.concepts import ConceptFiles
from fhir_server.access.engine import Engine
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.resource import ID_PATTERN
from fhir_server.search.plan import IdIn, Predicate, Scan, Search, SortKey, TokenIs, UriIs, both
from fhir_server.search.schema import SearchSchema
from terminology.concepts import Concepts
from terminology.published import published, published_maps

_NEWEST = (SortKey("_lastUpdated", "updated", descending=True),)
MOST_MAPS: Final = 50
"""Stored ConceptMaps that one translation looks into, the newest first."""


class StoredThenPublished:
    """Looks a canonical up, the newest if its version is not stated; also ``ValueSet/id``.

    What the caller may not search is as if it were not stored.
    """

    def __init__(
        self,
        engine: Engine,
        session: Session,
        schema: SearchSchema,
        base: str,
        files: ConceptFiles,
    ) -> None:
        self._conformance = engine.conformance
        self._session = session
        self._schema = schema
        self._base = base
        self._files = files

    async def find(self, type_: str, url: str, version: str) -> Mapping[str, Any] | None:
        local = url.removeprefix(f"{self._base}/")
        id_ = local.removeprefix(f"{type_}/")
        where: Predicate
        if id_ != local and ID_PATTERN.fullmatch(id_):
            where = IdIn((id_,))
        else:
            parameters = self._schema.of(type_).parameters
            where = UriIs(parameters["url"].index, url)
            if version:
                where = both(where, TokenIs(parameters["version"].index, None, version))
        stored = await self._found(type_, where, 1)
        if stored:
            return stored[0]
        installed = None
        if self._conformance is not None:
            installed = await self._conformance.installed(type_, url, version)
        return installed or published(type_, url, version)

    async def filed(self, code_system: Mapping[str, Any]) -> Concepts | None:
        return await self._files.of(self._session, code_system)

    async def maps(self, system: str, reverse: bool) -> Sequence[Mapping[str, Any]]:
        parameters = self._schema.of("ConceptMap").parameters
        name = "target-system" if reverse else "source-system"
        stored = await self._found("ConceptMap", UriIs(parameters[name].index, system), MOST_MAPS)
        installed: Sequence[Mapping[str, Any]] = ()
        if self._conformance is not None:
            installed = await self._conformance.maps(system, reverse=reverse)
        kept = {one.get("url"): one for one in (*published_maps(), *installed)}
        own = {one.get("url") for one in stored}
        return [*stored, *(one for url, one in kept.items() if url not in own)]

    async def _found(self, type_: str, where: Predicate, most: int) -> list[Mapping[str, Any]]:
        if not self._session.policy.allows("s", type_):
            return []
        search = Search((Scan(type_, where),), _NEWEST, count=most, total="none")
        page = await self._session.search(search)
        return [_parsed(bytes(stored.body)) for stored in page.matches]


def sources(
    engine: Engine, schema: SearchSchema, base: str, files: ConceptFiles
) -> Callable[[Session], StoredThenPublished]:
    """What operations ask for a caller's view."""
    return lambda session: StoredThenPublished(engine, session, schema, base, files)


@lru_cache(maxsize=64)
def _parsed(body: bytes) -> Mapping[str, Any]:
    """The same bytes are the same object, so that what was computed of it can be kept."""
    return loads(body)
