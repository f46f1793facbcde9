"""Small questions that the rows ask of an element."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fhir_server.model.exchange import Json

Test = Callable[[Json], bool]
"""True when the invariant holds. The element's structure is sound already."""

UCUM = "http://unitsofmeasure.org"


def has(element: Json, *names: str) -> bool:
    """Whether one of these elements exists, if only by an extension."""
    for name in names:  # noqa: SIM110 - a generator costs twice as much here
        if name in element or f"_{name}" in element:
            return True
    return False


def count(element: Json, *names: str) -> int:
    """How many of these (single) elements exist."""
    return sum(has(element, name) for name in names)


def chosen(element: Json, name: str) -> bool:
    """Whether a choice element exists: ``chosen(observation, "value")``."""
    start = len(name)
    for key in element:
        plain = key.lstrip("_")
        if plain.startswith(name) and plain[start : start + 1].isupper():
            return True
    return False


def every(element: Json, *names: str) -> list[Any]:
    """The items at a path of names, arrays flattened, nulls of arrays left out."""
    items: list[Any] = [element]
    for name in names:
        below: list[Any] = []
        for item in items:
            found = item.get(name)
            if type(found) is list:
                below += [one for one in found if one is not None]
            elif found is not None:
                below.append(found)
        items = below
    return items


def coded(concepts: Iterable[Json], system: str, *codes: str) -> bool:
    """Whether one of the CodeableConcepts has one of these codes."""
    return any(
        coding.get("system") == system and coding.get("code") in codes
        for concept in concepts
        for coding in concept.get("coding", ())
    )


def distinct(items: Iterable[Any]) -> bool:
    listed = list(items)
    return len(set(listed)) == len(listed)


def nested(element: Json, name: str) -> Iterator[Json]:
    """All objects below ``name``, ``name.name`` and so on, however deep."""
    waiting = list(element.get(name, ()))
    while waiting:
        item = waiting.pop()
        yield item
        waiting.extend(item.get(name, ()))
