"""A rule that speaks of nothing protects nothing: paths are checked against the definitions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import NamedTuple

from operations.deid.elements import Elements
from operations.deid.paths import Axis, Path, Step


class Place(NamedTuple):
    """Where a path has led: a FHIR type and whose children it has (empty: a primitive)."""

    type: str
    content: str


class Dead(NamedTuple):
    """Why a path finds nothing. ``fatal``: it can never be what its author meant."""

    text: str
    fatal: bool = False


def path(steps: Path, elements: Elements) -> Dead | None:
    """What is wrong with a rule's path; None if each step finds an element."""
    first = steps[0]
    if not elements.is_type(first.value) or not elements.descendants(first.value):
        return Dead(f"{first.value} is no resource type{_perhaps(first.value, elements.types())}")
    places = {Place(type_, type_) for type_ in elements.descendants(first.value)}
    for step in steps[1:]:
        if step.of is not None and not elements.is_type(step.of):
            return Dead(f"{step.of} is no type{_perhaps(step.of, elements.types())}")
        found = set(_next(step, places, elements))
        if not found:
            near = _perhaps(step.value, _offered(step, places, elements))
            return Dead(f"{step.axis.value} {step.value} finds no element{near}")
        places = found
        if step.where and not all(place.content for place in places):
            return Dead("where() on a primitive", fatal=True)
    return None


def _perhaps(word: str, words: Collection[str]) -> str:
    """The word that may have been meant."""
    near = get_close_matches(word, words, 1)
    return f"; {near[0]}?" if near else ""


def _offered(step: Step, places: set[Place], elements: Elements) -> Collection[str]:
    if step.axis is Axis.NODES_BY_TYPE:
        return elements.types()
    if step.axis is Axis.NODES_BY_NAME:
        return elements.names()
    return {f.name for p in places for f in elements.fields(p.content or "Element").values()}


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
