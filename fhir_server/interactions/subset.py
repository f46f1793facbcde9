"""Parts of resources: ``_summary`` and ``_elements``.

https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements.
Mandatory elements always stay, so that a part is still a valid resource; it is tagged
SUBSETTED, so that nobody takes it for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from fhir_server.definitions.elements import Element
from fhir_server.definitions.registry import Definitions
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Stored
from fhir_server.search.results import element_names

Tree: TypeAlias = Mapping[str, "Tree | None"]
"""Members to keep; None keeps the whole value."""

SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
_ALWAYS: Final = frozenset({"id", "meta"})
_INLINE: Final = frozenset({"BackboneElement", "Element"})


Cut: TypeAlias = Callable[[Stored], Stored]
"""A stored resource with a part of its body."""


class Subsets:
    """Cuts resources down, by trees compiled once per type from the definitions."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._summary: dict[str, Tree] = {}
        self._elements = lru_cache(maxsize=256)(self._element_tree)

    def cut(self, mode: str) -> Callable[[Json], Json]:
        """``_summary`` true, text or data; BadRequest for anything else."""
        match mode:
            case "true":
                return self.summary
            case "text":
                return self.text
            case "data":
                return self.data
            case "false":
                return lambda resource: resource
            case "count":  # "Search only", as the table of _summary in the specification says
                raise BadRequest("_summary=count is of searches only")
        raise BadRequest(f"_summary: {mode[:40]!r} is none of true, text, data, false")

    def summary(self, resource: Json) -> Json:
        """The elements that FHIR marks as summary, and mandatory ones."""
        return _tagged(_kept(resource, self._summary_tree(resource["resourceType"])))

    def text(self, resource: Json) -> Json:
        """text, id, meta and mandatory elements."""
        return _tagged(_kept(resource, self._elements(resource["resourceType"], ("text",))))

    def data(self, resource: Json) -> Json:
        """Everything but the narrative."""
        return _tagged({name: value for name, value in resource.items() if name != "text"})

    def elements(self, names: Iterable[str]) -> Callable[[Json], Json]:
        """The named top-level elements (``name`` or ``Patient.name``), id, meta, mandatory."""
        wanted = tuple(sorted(names))

        def cut(resource: Json) -> Json:
            return _tagged(_kept(resource, self._elements(resource["resourceType"], wanted)))

        return cut

    def _summary_tree(self, path: str) -> Tree:
        known = self._summary.get(path)
        if known is None:
            tree: dict[str, Tree | None] = {}
            self._summary[path] = tree  # first, for types that contain themselves
            for name, (element, type_) in self.definitions.members(path).items():
                if element.summary or element.min or name in _ALWAYS or not element.path:
                    tree[name] = self._below(element, type_.code)
            return tree
        return known

    def _below(self, element: Element, type_: str) -> Tree | None:
        if element.path.endswith((".meta", ".id")) or type_ in ("Resource", "Extension", "xhtml"):
            return None
        if self.definitions.type(type_).kind == "primitive-type":
            return None
        return self._summary_tree(element.path if type_ in _INLINE else type_)

    def _element_tree(self, type_: str, wanted: tuple[str, ...]) -> Tree:
        names = {n.removeprefix(f"{type_}.") for n in wanted} | _ALWAYS
        return {
            name: None
            for name, (element, _) in self.definitions.members(type_).items()
            if element.name in names or name in names or element.min
        }


def subset(subsets: Subsets, summary: str, elements: tuple[str, ...]) -> Cut | None:
    """What ``_summary`` or ``_elements`` make of a stored resource; None: nothing."""
    cut = _cutting(subsets, summary, elements)
    if cut is None:
        return None
    return lambda stored: stored._replace(body=dumps(cut(loads(stored.body))))


def _cutting(
    subsets: Subsets, summary: str, elements: tuple[str, ...]
) -> Callable[[Json], Json] | None:
    if elements:
        return subsets.elements(elements)
    return subsets.cut(summary) if summary in ("true", "text", "data") else None


def subset_of_included(subsets: Subsets, summary: str, elements: tuple[str, ...]) -> Cut | None:
    """What is left of an included resource: "the list of elements does not apply to included
    resources" (https://hl7.org/fhir/R4/search.html#elements), unless it names their type.
    """
    typed = tuple(name for name in elements if "." in name)
    cut = subset(subsets, "" if elements else summary, typed)
    if cut is None or not typed:
        return cut
    types = {name.partition(".")[0] for name in typed}
    return lambda stored: cut(stored) if stored.key.type in types else stored


PARTS: Final = ("_summary", "_elements")


Asked: TypeAlias = tuple[str, tuple[str, ...]]
"""``_summary`` and the names of ``_elements``."""


def part(subsets: Subsets, types: tuple[str, ...], query: Sequence[tuple[str, str]]) -> Cut | None:
    """``_summary`` or ``_elements`` of a query outside of search; None: the whole resources.

    https://hl7.org/fhir/R4/http.html#parameters. ``types``: of which ``_elements`` may be.
    """
    return subset(subsets, *asked_for(subsets, types, query))


def asked_for(subsets: Subsets, types: tuple[str, ...], query: Sequence[tuple[str, str]]) -> Asked:
    """What a query outside of search asks for. Raises BadRequest."""
    pairs = [(name, value) for name, value in query if name in PARTS]
    asked = dict(pairs)
    if len(asked) < len(pairs) or (len(asked) > 1 and asked["_summary"] != "false"):
        raise BadRequest("_summary and _elements go alone and once")
    summary = asked.get("_summary", "false")
    subsets.cut(summary)
    elements = asked.get("_elements")
    names = () if elements is None else element_names(subsets.definitions, types, elements)
    return summary, tuple(names)


def part_of(subsets: Subsets, asked: Asked, resource: Json) -> Json:
    """That of a resource that is not stored."""
    cut = _cutting(subsets, *asked)
    return resource if cut is None else cut(resource)


def _kept(value: Json, tree: Tree) -> Json:
    kept: Json = {}
    for name, inner in value.items():
        bare = name.removeprefix("_")
        if name == "resourceType":
            kept[name] = inner
        elif bare in tree:
            below = tree[bare]
            part = inner if below is None else _part(inner, below)
            if part is not None:
                kept[name] = part
    return kept


def _part(value: Any, tree: Tree) -> Any:
    """None where nothing is left of a value."""
    if isinstance(value, list):
        parts = [part for item in value if (part := _part(item, tree)) is not None]
        return parts or None
    return (_kept(value, tree) or None) if isinstance(value, dict) else value


def _tagged(resource: Json) -> Json:
    meta = resource.get("meta", {})
    tags = [*meta.get("tag", ()), SUBSETTED]
    front: Json = {name: resource[name] for name in ("resourceType", "id") if name in resource}
    return {**front, "meta": {**meta, "tag": tags}, **_rest(resource)}


def _rest(resource: Json) -> Json:
    return {n: v for n, v in resource.items() if n not in ("resourceType", "id", "meta")}
