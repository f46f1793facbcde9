"""Links between the entries of a transaction: https://hl7.org/fhir/R4/http.html#trules
and https://hl7.org/fhir/R4/bundle.html#references

A resource is searched once for the places that must change (``Site``); each attempt then
fills them. Replaced are Reference.reference, elements of type uri, url, oid and uuid, and
``a href`` and ``img src`` in narrative; never elements of type canonical.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from fhir_server.definitions.registry import Definitions
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

URI_TYPES: Final = frozenset({"uri", "url", "oid", "uuid"})

_RESTFUL: Final = re.compile(r"(https?://.+/)([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}")
_CONDITION: Final = re.compile(r"([A-Z][A-Za-z]+)\?(.*)", re.DOTALL)
_RELATIVE: Final = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}(?:/_history/.+)?")
_URN: Final = re.compile(r"urn:(?:uuid|oid):", re.IGNORECASE)
_NARRATIVE: Final = re.compile(
    r"""(<(?:a|img)\s(?:[^<>]*\s)?(?:href|src)\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE
)


class Target(NamedTuple):
    """The identity of the entry with this index."""

    entry: int


class Version(NamedTuple):
    """A version of that entry, as the client wrote it."""

    entry: int
    text: str


class Condition(NamedTuple):
    """The one resource that a search finds."""

    type: str
    query: str


Piece = str | Target | Version | Condition


class Site(NamedTuple):
    """A place in a resource: what stands there is the join of its pieces."""

    holder: Any
    key: str | int
    pieces: tuple[Piece, ...]


class Links:
    """What the fullUrls of one Bundle lead to: fullUrl -> index of its entry."""

    def __init__(self, by_url: Mapping[str, int], definitions: Definitions) -> None:
        self._by_url = by_url
        self._whole = {url: (Target(entry),) for url, entry in by_url.items()}
        self._definitions = definitions

    def sites(self, resource: Json, full_url: str | None) -> list[Site]:
        """The places of one entry's resource; a Bundle that is stored is left as it is.

        Unprocessable for a ``urn:uuid`` or ``urn:oid`` that is no entry's: nobody could ever
        resolve it (https://hl7.org/fhir/R4/bundle.html#references).
        """
        if resource.get("resourceType") == "Bundle":
            return []
        restful = _RESTFUL.fullmatch(full_url) if full_url is not None else None
        found: list[Site] = []
        if self._walk(resource, restful[1] if restful else "", found):
            found.extend(self._uris(resource))
        return found

    def _walk(self, resource: Json, root: str, found: list[Site]) -> bool:
        """References and narrative; True if some other string is one of the fullUrls."""
        again = False
        by_url = self._whole
        waiting: list[Any] = [resource]
        while waiting:
            node = waiting.pop()
            if type(node) is list:
                for item in node:
                    if type(item) is dict:
                        waiting.append(item)
                    elif type(item) is str and item in by_url:
                        again = True
                continue
            for name, value in node.items():
                if type(value) is not str:
                    if type(value) is dict or type(value) is list:
                        waiting.append(value)
                elif name == "reference":
                    pieces = by_url.get(value) or self._reference(value, root)
                    if pieces is not None:
                        found.append(Site(node, name, pieces))
                elif value in by_url:
                    again = True
                elif name == "div" and "<" in value:
                    pieces = self._narrative(value, root)
                    if pieces is not None:
                        found.append(Site(node, name, pieces))
        return again

    def _reference(self, text: str, root: str) -> tuple[Piece, ...] | None:
        found = self._link(text, root)
        if found is None and "?" in text:
            condition = _CONDITION.fullmatch(text)
            if condition is not None:
                return (Condition(condition[1], condition[2]),)
        if found is None and _URN.match(text):
            raise Unprocessable(f"no entry of the Bundle is {text[:100]!r}", code="not-found")
        return found

    def _link(self, text: str, root: str) -> tuple[Piece, ...] | None:
        """A link to an entry, its version and fragment kept behind it."""
        entry = self._by_url.get(text)
        if entry is not None:
            return (Target(entry),)
        url, mark, fragment = text.partition("#")
        plain, history, version = url.partition("/_history/")
        entry = self._by_url.get(plain)
        if entry is None and root and _RELATIVE.fullmatch(url):
            entry = self._by_url.get(root + plain)
        if entry is None or not plain:
            return None
        pieces: list[Piece] = [Target(entry)]
        if history:
            pieces += [history, Version(entry, version)]
        return (*pieces, mark + fragment)

    def _narrative(self, div: str, root: str) -> tuple[Piece, ...] | None:
        pieces: list[Piece] = []
        end = 0
        for match in _NARRATIVE.finditer(div):
            link = self._link(match[2][1:-1], root)
            if link is not None:
                pieces += [div[end : match.start(2) + 1], *link]
                end = match.end(2) - 1
        return (*pieces, div[end:]) if pieces else None

    def _uris(self, resource: Json) -> Iterator[Site]:
        """The slow, typed walk: only where a fullUrl was seen outside of references."""
        type_ = resource.get("resourceType")
        if isinstance(type_, str) and type_ in self._definitions.resource_types:
            yield from self._typed(type_, resource)

    def _typed(self, path: str, node: Json) -> Iterator[Site]:
        try:
            members = self._definitions.members(path)
        except KeyError:
            return
        for name, value in node.items():
            row = members.get(name)
            if row is None:
                child, is_uri = "Element", False
            else:
                element, type_ = row
                is_uri = type_.code in URI_TYPES
                inline = type_.code in ("BackboneElement", "Element", "Resource")
                child = (element.content_reference or element.path) if inline else type_.code
            items = enumerate(value) if isinstance(value, list) else ((name, value),)
            holder = value if isinstance(value, list) else node
            for key, item in items:
                if isinstance(item, dict):
                    yield from self._typed(item.get("resourceType", child), item)
                elif is_uri and isinstance(item, str) and item in self._by_url:
                    yield Site(holder, key, (Target(self._by_url[item]),))


def fill(site: Site, render: Callable[[Piece], str]) -> None:
    """Put the text of a site in its place."""
    site.holder[site.key] = "".join([render(piece) for piece in site.pieces])
