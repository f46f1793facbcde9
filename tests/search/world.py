"""A world of a few resources that answers queries by the plan's own specification."""

from __future__ import annotations

from typing import Any

from fhir_server.definitions.registry import load
from fhir_server.formats.json import dumps
from fhir_server.search import plan
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import matches
from fhir_server.search.parameters import Context
from fhir_server.search.parse import Parsed, parse_search
from fhir_server.search.schema import SearchSchema
from fhir_server.search.values import IndexValues
from fhir_server.search.words import words_of

BASE = "https://ehr.example.org/fhir"
SCHEMA = SearchSchema(load())
EXTRACT = compile_extract(SCHEMA, BASE)

Joined = plan.Chain | plan.Has | plan.TextHas


def parse(type: str | None, query: str, **more: Any) -> Parsed:
    """``query``: decoded, pairs separated by ``&``."""
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&")] if query else []
    context = Context(BASE, now=1_700_000_000_000_000)
    return parse_search(SCHEMA, type, pairs, context, **more)  # type: ignore[arg-type]


class World:
    def __init__(self, *resources: dict[str, Any]) -> None:
        self.values: dict[tuple[str, str], IndexValues] = {
            (r["resourceType"], r["id"]): EXTRACT(r) for r in resources
        }
        self.bodies = {(r["resourceType"], r["id"]): dumps(r) for r in resources}

    def search(self, query: str) -> list[str]:
        """Ids of ``Type?query``, sorted."""
        type, _, rest = query.partition("?")
        (scan,) = parse(type, rest, strict=True).search.scans
        return self.scan(scan)

    def scan(self, scan: plan.Scan) -> list[str]:
        return sorted(
            id
            for (type, id), values in self.values.items()
            if type == scan.type and self.holds(scan.where, type, id, values)
        )

    def holds(self, where: plan.Predicate, type: str, id: str, values: IndexValues) -> bool:
        return matches(where, id, values, 0, lambda node: self.join(node, type, id, values))

    def join(self, node: Joined, type: str, id: str, values: IndexValues) -> bool:
        if isinstance(node, plan.TextHas):
            words = words_of(self.bodies[type, id])
            return words.have(node.param, node.words, prefix=node.prefix)
        if isinstance(node, plan.Chain):
            found = {(scan.type, one) for scan in node.targets for one in self.scan(scan)}
            return any(
                (ref.type, ref.id) in found for ref in values.references if ref.param == node.param
            )
        return any(
            ref.param == node.param and (ref.type, ref.id) == (type, id)
            for one in self.scan(node.source)
            for ref in self.values[node.source.type, one].references
        )
