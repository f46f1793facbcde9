"""uri: https://hl7.org/fhir/R4/search.html#uri"""

from __future__ import annotations

from typing import Any as Value

from fhir_server.search.parameters.escape import unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.plan import Any, Predicate, UriIs
from fhir_server.search.values import IndexValues, UriValue


def _uri(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        out.uris.append(UriValue(index, value))

    return emit


def _canonical(index: str, _site: Site) -> Emit:
    """``url|version`` is found by ``url`` as well."""

    def emit(value: Value, out: IndexValues) -> None:
        out.uris.append(UriValue(index, value))
        url, bar, _ = value.partition("|")
        if bar:
            out.uris.append(UriValue(index, url))

    return emit


def compile_uri(criterion: Criterion) -> Predicate:
    """The whole uri; case and every character matter."""
    parts = tuple(UriIs(criterion.index, unescape(value)) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


URI = Kind(
    name="uri",
    description="A uri, compared as a whole; a canonical is found with or without its version",
    example="Patient?_profile=http://hl7.org/fhir/StructureDefinition/Patient",
    compile=compile_uri,
    readers={"canonical": _canonical} | dict.fromkeys(("uri", "url", "oid", "uuid"), _uri),
)
