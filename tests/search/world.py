"""A world of a few resources that answers queries by the plan's own specification."""

from __future__ import annotations

from typing import Any

from fhir_server.definitions.registry import load
from fhir_server.formats.json import dumps
from fhir_server.search import plan
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import Joined, matches
from fhir_server.search.parameters import Context
from fhir_server.search.parse import Parsed, parse_search
from fhir_server.search.schema import SearchSchema
from fhir_server.search.values import IndexValues
from fhir_server.search.words import contained_body, words_of

BASE = "https://ehr.example.org/fhir"
SCHEMA = SearchSchema(load())
EXTRACT = compile_extract(SCHEMA, BASE)


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
        """Ids of ``Type?query``, sorted; of another type as ``Type/id``."""
        type, _, rest = query.partition("?")
        found = {
            one if scan.type == type else f"{scan.type}/{one}"
            for scan in parse(type, rest, strict=True).search.scans
            for one in self.scan(scan)
        }
        return sorted(found)

    def scan(self, scan: plan.Scan) -> list[str]:
        return sorted(
            id
            for (type, id), values in self.values.items()
            if type == scan.type and self.holds(scan.where, type, id, values)
        )

    def holds(self, where: plan.Predicate, type: str, id: str, values: IndexValues) -> bool:
        return matches(where, id, values, 0, lambda node: self.join(node, type, id, values))

    def inside(self, scan: plan.Scan, type: str, id: str, number: int) -> bool:
        """Whether a scan finds one of the contained resources of ``type``/``id``."""
        one = self.values[type, id].contained[number]

        def join(node: Joined) -> bool:
            return self.join(node, type, id, one.values, number)

        return one.type == scan.type and matches(scan.where, one.id, one.values, 0, join)

    def join(
        self, node: Joined, type: str, id: str, values: IndexValues, number: int | None = None
    ) -> bool:
        """``number``: of the contained resource that is asked about, not its container."""
        inner = self.values[type, id].contained
        match node:
            case plan.TextHas(param, wanted, prefix):
                body = self.bodies[type, id]
                words = words_of(body if number is None else contained_body(body, number))
                return words.have(param, wanted, prefix=prefix)
            case plan.Contains(scan):
                return any(self.inside(scan, type, id, n) for n in range(len(inner)))
            case plan.Chain(param, targets, inside=inside):
                found = {(scan.type, one) for scan in targets for one in self.scan(scan)}
                mine = [ref for ref in values.references if ref.param == param]
                urls = {ref.url for ref in mine}
                return any((ref.type, ref.id) in found for ref in mine) or any(
                    self.inside(scan, type, id, n)
                    for n, one in enumerate(inner)
                    if f"#{one.id}" in urls
                    for scan in inside
                )
            case plan.Has(source, param) if number is not None:
                around = self.values[type, id]
                return (
                    source.type == type
                    and any(
                        ref.param == param and ref.url == f"#{inner[number].id}"
                        for ref in around.references
                    )
                    and self.holds(source.where, type, id, around)
                )
            case plan.Has(source, param):
                return any(
                    ref.param == param and (ref.type, ref.id) == (type, id)
                    for one in self.scan(source)
                    for ref in self.values[source.type, one].references
                )
