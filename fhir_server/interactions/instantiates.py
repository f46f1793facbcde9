"""Which statements of guides this server fulfils: CapabilityStatement.instantiates.

https://hl7.org/fhir/R4/capabilitystatement-definitions.html#CapabilityStatement.instantiates

Installed guides say in a CapabilityStatement of kind ``requirements`` what a server SHALL do;
each element bears its expectation, and what bears none is demanded. It is claimed where nothing
that is demanded is lacking from the server's own statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json

EXPECTATION: Final = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation"
COMBINATION: Final = (
    "http://hl7.org/fhir/StructureDefinition/capabilitystatement-search-parameter-combination"
)
FORMATS: Final = {"json": "application/fhir+json", "xml": "application/fhir+xml"}
"""Two names of one format: https://hl7.org/fhir/R4/http.html#mime-type"""
_LISTS: Final = ("supportedProfile", "searchInclude", "searchRevInclude", "referencePolicy")
_FLAGS: Final = (
    "versioning",
    "readHistory",
    "updateCreate",
    "conditionalCreate",
    "conditionalRead",
    "conditionalUpdate",
    "conditionalDelete",
)


def fulfilled(statements: Iterable[bytes], own: Json) -> list[str]:
    """The urls of those statements of guides of which nothing is lacking."""
    found: set[str] = set()
    for text in statements:
        required = loads(text)
        try:
            missing = lacking(required, own)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # a package may hold anything; what is no statement is not fulfilled
        if not missing:
            found.add(required["url"])
    return sorted(found)


def lacking(required: Json, own: Json) -> list[str]:
    """What a statement demands of servers and the server's own statement does not say.

    ``instantiates`` is left out: a statement of requirements names itself there.
    """
    have = set(own["format"])
    found = [
        f"format {code}"
        for code in demanded(required, "format")
        if not {code, FORMATS.get(code, code)} & have
    ]
    offered = own.get("patchFormat", ())
    found += (f"patchFormat {c}" for c in demanded(required, "patchFormat") if c not in offered)
    (rest,) = own["rest"]
    asked = [one for one in required["rest"] if one["mode"] == "server" and is_demanded(one)]
    for wanted in asked:
        found += _of_rest(wanted, rest)
    return found if asked else ["a statement of servers"]


def _of_rest(wanted: Json, rest: Json) -> Iterator[str]:
    """What a server lacks, first of all types, then by type."""
    across = {row["name"]: row["type"] for row in rest.get("searchParam", ())}
    yield from _rows(wanted, rest, across, "system")
    types = {row["type"]: row for row in rest["resource"]}
    for row in filter(is_demanded, wanted.get("resource", ())):
        have = types.get(row["type"])
        if have is None:
            yield row["type"]
        else:
            yield from _of_type(row, have, across)


def _of_type(wanted: Json, have: Json, across: dict[str, str]) -> Iterator[str]:
    type_ = wanted["type"]
    yield from _rows(wanted, have, across, type_)
    for name in _LISTS:
        there = {_plain(value) for value in have.get(name, ())}
        for value in demanded(wanted, name):
            if _plain(value) not in there:
                yield f"{type_} {name} {value}"
    for name in _FLAGS:
        if name in wanted and _expected(wanted.get(f"_{name}")) and not _meets(wanted, have, name):
            yield f"{type_} {name} {wanted[name]}"
    codes = across.keys() | {row["name"] for row in have.get("searchParam", ())}
    for extension in wanted.get("extension", ()):
        if extension.get("url") == COMBINATION and is_demanded(extension):
            parts = [p["valueString"] for p in extension["extension"] if "valueString" in p]
            if not codes.issuperset(parts):
                yield f"{type_} searches by {' + '.join(parts)}"


def _rows(wanted: Json, have: Json, across: dict[str, str], of: str) -> Iterator[str]:
    """Interactions, search parameters and operations of a type or of the system."""
    codes = {row["code"] for row in have.get("interaction", ())}
    for row in filter(is_demanded, wanted.get("interaction", ())):
        if row["code"] not in codes:
            yield f"{of} interaction {row['code']}"
    kinds = across | {row["name"]: row["type"] for row in have.get("searchParam", ())}
    for row in filter(is_demanded, wanted.get("searchParam", ())):
        if kinds.get(row["name"]) != row["type"]:
            yield f"{of} searchParam {row['name']}"
    operations = {_plain(row["definition"]) for row in have.get("operation", ())}
    for row in filter(is_demanded, wanted.get("operation", ())):
        if _plain(row["definition"]) not in operations:
            yield f"{of} operation {row['name']}"


def _meets(wanted: Json, have: Json, name: str) -> bool:
    """Is a flag or degree of support what is wanted? Only that itself counts, or what is off."""
    return have.get(name) == wanted[name] or wanted[name] in (False, "not-supported", "no-version")


def demanded(element: Json, name: str) -> list[Any]:
    """The values of a list of primitives that are demanded."""
    values, beside = element.get(name, []), element.get(f"_{name}", [])
    padded = [*beside, *(None for _ in values[len(beside) :])]
    return [v for v, e in zip(values, padded, strict=True) if v is not None and _expected(e)]


def is_demanded(element: Json) -> bool:
    """SHALL, or nothing said."""
    return _expected(element)


def _expected(element: Json | None) -> bool:
    for extension in (element or {}).get("extension", ()):
        if extension.get("url") == EXPECTATION:
            return bool(extension.get("valueCode") == "SHALL")
    return True


def _plain(url: str) -> str:
    """A canonical url without its version."""
    return url.partition("|")[0]
