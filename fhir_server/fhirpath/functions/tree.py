"""Tree navigation: http://hl7.org/fhirpath/N1/#tree-navigation."""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.functions.registry import function
from fhir_server.fhirpath.node import Collection, Node, Untyped, children


def children_(run: Run, items: Collection) -> Collection:
    found: list[Any] = []
    for item in items:
        if isinstance(item, Node):
            _children(run, item, found)
    run.spend(len(items) + len(found))
    return run.bounded(found)


def descendants(run: Run, items: Collection) -> Collection:
    found: Collection = []
    level = items
    while level:
        level = children_(run, level)
        found.extend(level)
        run.bounded(found)
    return found


def _children(run: Run, item: Node, found: list[Any]) -> None:
    if run.model is None or not item.property.path:
        children(item, tuple(Untyped.all(item)), found)
        return
    for properties in run.model.elements(item.property.path).values():
        children(item, properties, found)


FUNCTIONS = (
    function("children", children_, doc="The elements directly below", example=("{}.children()",)),
    function("descendants", descendants, doc="All elements below", example=("{}.descendants()",)),
)
