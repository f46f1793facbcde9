"""A rule that speaks of nothing protects nothing: paths are checked against the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from operations.deid.elements import Elements
from operations.deid.paths import Axis, Path, Step


class Place(NamedTuple):
    """Where a path has led: a FHIR type and whose children it has (empty: a primitive)."""

    type: str
    content: str


def path(steps: Path, elements: Elements) -> list[str]:
    """What is wrong with a rule's path; empty if each step finds an element."""
    first = steps[0]
    if not elements.is_type(first.value) or not elements.descendants(first.value):
        return [f"{first.value} is no resource type"]
    places = {Place(type_, type_) for type_ in elements.descendants(first.value)}
    for step in steps[1:]:
        if step.of is not None and not elements.is_type(step.of):
            return [f"{step.of} is no type"]
        places = set(_next(step, places, elements))
        if not places:
            return [f"{step.axis.value} {step.value} finds no element"]
        if step.where and not all(place.content for place in places):
            return ["where() on a primitive"]
    return []


def _next(step: Step, places: set[Place], elements: Elements) -> Iterator[Place]:
    if step.axis is Axis.NODES_BY_TYPE:
        if elements.is_type(step.value):
            yield from _of_type(step.value, elements)
        return
    if step.axis is Axis.NODES_BY_NAME:
        if step.value in elements.names():
            yield Place("", "")
        return
    for place in places:
        fields = elements.fields(place.content or "Element").values()
        found = [f for f in fields if step.accepts(f.name, f.type)]
        yield from (Place(field.type, field.content) for field in found)


def _of_type(type_: str, elements: Elements) -> Iterator[Place]:
    """A datatype's own children, or those of every backbone for BackboneElement."""
    yield Place(type_, "" if elements.is_primitive(type_) else type_)
