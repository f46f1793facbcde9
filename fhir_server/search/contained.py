"""``_contained``: https://hl7.org/fhir/R4/search.html#contained

``false`` (default) finds resources that stand alone, ``true`` those that contain what is sought,
``both`` either. What is returned is the container.
"""

from __future__ import annotations

from fhir_server.search.criteria import not_supported
from fhir_server.search.plan import DEFAULT_SORT, Contains, Scan
from fhir_server.search.results import Result
from fhir_server.search.schema import SearchSchema

_SORTS = frozenset({"_id", "_lastUpdated"})
"""Containers of many types have only these in common."""


def container_types(schema: SearchSchema) -> tuple[str, ...]:
    """The types that may contain resources."""
    members = schema.definitions.members
    return tuple(type_ for type_ in sorted(schema.types) if "contained" in members(type_))


def within_containers(
    schema: SearchSchema, result: Result, scans: tuple[Scan, ...], *, everywhere: bool
) -> tuple[Scan, ...]:
    """The scans as ``_contained`` wants them. ``everywhere``: they are all that the query says,
    not a part of a compartment. Raises BadRequest for what does not go with it."""
    if result.contained == "false":
        return scans
    if len(scans) != 1 or not everywhere:
        not_supported("_contained is supported in a search of one type only")
    if result.includes:
        not_supported("_contained does not go with _include and _revinclude")
    if result.sort != DEFAULT_SORT and not all(by.param in _SORTS for by in result.sort):
        not_supported("_contained goes with no _sort but by _id and _lastUpdated")
    (scan,) = scans
    found = tuple(Scan(type_, Contains(scan)) for type_ in container_types(schema))
    return (scan, *found) if result.contained == "both" else found
