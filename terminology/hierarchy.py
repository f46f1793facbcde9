"""The concepts of one CodeSystem: https://hl7.org/fhir/R4/codesystem.html

Parents come from nested concepts and from the properties ``parent``, ``child`` and
``subsumedBy`` (https://hl7.org/fhir/R4/codesystem.html#defined-props).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

UP: Final = frozenset({"parent", "subsumedBy"})


class Hierarchy:
    """``concepts``: code -> its JSON. Where the hierarchy is stated to be another than is-a,
    nothing subsumes anything else."""

    def __init__(self, code_system: Mapping[str, Any]) -> None:
        self.concepts: dict[str, Mapping[str, Any]] = {}
        self._children: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = {}
        is_a = code_system.get("hierarchyMeaning", "is-a") == "is-a"
        for concept, parent in _walk(code_system.get("concept", ())):
            self.concepts[concept["code"]] = concept
            if is_a:
                self._link(concept, parent)

    def _link(self, concept: Mapping[str, Any], parent: str | None) -> None:
        code = concept["code"]
        if parent is not None:
            self._add(parent, code)
        for found in concept.get("property", ()):
            other = found.get("valueCode")
            if other is None:
                continue
            if found.get("code") in UP:
                self._add(other, code)
            elif found.get("code") == "child":
                self._add(code, other)

    def _add(self, parent: str, child: str) -> None:
        self._children.setdefault(parent, set()).add(child)
        self._parents.setdefault(child, set()).add(parent)

    def below(self, code: str) -> set[str]:
        """The code and its descendants."""
        return _reached(self._children, code)

    def above(self, code: str) -> set[str]:
        """The code and its ancestors."""
        return _reached(self._parents, code)


def _reached(links: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """Along the links from ``start``; circles end."""
    found, fresh = {start}, [start]
    while fresh:
        for code in links.get(fresh.pop(), ()):
            if code not in found:
                found.add(code)
                fresh.append(code)
    return found


def _walk(concepts: Iterable[Any]) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """Every concept with its parent's code."""
    stack: list[tuple[Mapping[str, Any], str | None]] = [(c, None) for c in concepts]
    while stack:
        concept, parent = stack.pop()
        if "code" in concept:
            yield concept, parent
        stack += [(below, concept.get("code")) for below in concept.get("concept", ())]
