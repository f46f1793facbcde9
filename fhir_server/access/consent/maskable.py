"""Which indexes of a type have values that a mask may take with what it takes.

A reference to something hidden goes, and ``restrict`` knows which do not count. But an element that
cannot be without it goes too, with its codes (``stripping``), and so does an attachment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fhir_server.access.stripping import WHOLE, path_below
from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions
from fhir_server.search.paths import Path
from fhir_server.search.schema import SearchSchema

WORDS: Final = frozenset({"_text", "_content"})
"""Made of everything that is written."""


def maskable(schema: SearchSchema, type_: str) -> frozenset[str]:
    """The indexes, and ``WORDS``."""
    found = {
        index.name
        for index in schema.of(type_).indexes
        if any(_is_taken(schema.definitions, type_, path) for path in index.paths)
    }
    return WORDS | found


def _is_taken(definitions: Definitions, type_: str, path: Path) -> bool:
    """May a mask take a value of this path for another's sake?"""
    at = type_
    for hop in path.hops:
        known = definitions.members(at).get(hop.member)
        if known is None:
            return False
        if at == "Attachment" or (at != type_ and _goes(definitions, at, hop.member)):
            return True
        at = _below(*known)
    return False


def _below(element: Element, type_: TypeRef) -> str:
    return path_below(element.path, element.content_reference, type_.code)


def _goes(definitions: Definitions, path: str, besides: str) -> bool:
    """May the element go because of a member other than ``besides``?"""
    if path in WHOLE:
        return True
    return any(name != besides for name in _needed(definitions, path, frozenset({path})))


def _needed(definitions: Definitions, path: str, above: frozenset[str]) -> Iterator[str]:
    """The required members that may go."""
    try:
        members = definitions.members(path)
    except KeyError:
        return
    for name, (element, type_) in members.items():
        if not element.min:
            continue
        below = _below(element, type_)
        if type_.code in ("Reference", "Attachment"):
            yield name
            continue
        inner = below.startswith(path.partition(".")[0] + ".") and below not in above
        if inner and any(True for _ in _needed(definitions, below, above | {below})):
            yield name
