"""A predicate without joins, judged on one version that is at hand."""

from __future__ import annotations

from fhir_server.access.engine import Engine
from fhir_server.model.exchange import Json
from fhir_server.search.codings import codings
from fhir_server.search.match import Joined
from fhir_server.search.plan import Coded, Predicate, TextHas
from fhir_server.search.values import IndexValues
from fhir_server.search.words import resource_words


def holds(
    engine: Engine,
    predicate: Predicate,
    resource: Json,
    updated: int,
    values: IndexValues | None = None,
) -> bool:
    """``updated``: microseconds; ``values``: of the resource, if they are known.

    Raises LookupError for a join.
    """

    def read(node: Joined) -> bool:
        if isinstance(node, TextHas):
            return resource_words(resource).have(node.param, node.words, prefix=node.prefix)
        if not isinstance(node, Coded):
            raise LookupError(f"{type(node).__name__} needs a store")
        return any(
            code == node.code and node.system in (None, system)
            for system, code in codings(resource)
        )

    found = engine.extract(resource) if values is None else values
    return engine.matches(predicate, resource.get("id", ""), found, updated, read)
