"""The CodeSystems and ValueSets of this server, for searches that need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.resource import ID_PATTERN
from fhir_server.search.plan import IdIn, Predicate, Scan, Search, SortKey, TokenIs, UriIs, both
from fhir_server.search.schema import SearchSchema
from terminology.stored import Find

_NEWEST = (SortKey("_lastUpdated", "updated", descending=True),)


def finder(session: Session, schema: SearchSchema, base: str) -> Find:
    """Looks a canonical up, the newest if its version is not stated; also ``ValueSet/id``."""

    async def find(type_: str, url: str, version: str) -> Mapping[str, Any] | None:
        local = url.removeprefix(f"{base}/")
        id_ = local.removeprefix(f"{type_}/")
        where: Predicate
        if id_ != local and ID_PATTERN.fullmatch(id_):
            where = IdIn((id_,))
        else:
            parameters = schema.of(type_).parameters
            where = UriIs(parameters["url"].index, url)
            if version:
                where = both(where, TokenIs(parameters["version"].index, None, version))
        page = await session.search(Search((Scan(type_, where),), _NEWEST, count=1, total="none"))
        return loads(page.matches[0].body) if page.matches else None

    return find
