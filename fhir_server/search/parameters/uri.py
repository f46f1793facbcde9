"""uri: https://hl7.org/fhir/R4/search.html#uri"""

from __future__ import annotations

from typing import Any as Value

from fhir_server.search.parameters.escape import unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.plan import All, Any, Predicate, UriIs
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
    """The whole uri; case and every character matter. ``:below``, ``:above``: path segments."""
    parts = tuple(_sought(criterion, unescape(value)) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


def _sought(criterion: Criterion, uri: str) -> Predicate:
    match criterion.modifier:
        case "":
            return UriIs(criterion.index, uri)
        case "below":
            url, _, version = uri.partition("|")
            if version and "canonical" in criterion.parameter.types:
                of_url = UriIs(criterion.index, url)
                return All((of_url, UriIs(criterion.index, uri, "version")))
            _hierarchical(criterion, uri)
            return UriIs(criterion.index, uri, "below")
        case _:
            _hierarchical(criterion, uri)
            return UriIs(criterion.index, uri, "above")


def _hierarchical(criterion: Criterion, uri: str) -> None:
    """Only urls with paths have an above and a below."""
    if "://" not in uri or "|" in uri:
        raise criterion.bad(uri, f"is not a url whose path :{criterion.modifier} can follow")


URI = Kind(
    name="uri",
    description="A uri, compared as a whole; a canonical is found with or without its version",
    example="Patient?_profile=http://hl7.org/fhir/StructureDefinition/Patient",
    modifiers=("below", "above"),
    compile=compile_uri,
    readers={"canonical": _canonical} | dict.fromkeys(("uri", "url", "oid", "uuid"), _uri),
)
