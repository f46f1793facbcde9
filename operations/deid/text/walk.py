"""Every element of a resource with its FHIR type, by the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fhir_server.model.exchange import Json
from operations.deid.elements import Elements


class Node(NamedTuple):
    """One value. ``owner``: the type or element path that it is a member of."""

    owner: str
    key: str
    type: str
    value: Any
    around: Json


def nodes(resource: Json, elements: Elements) -> Iterator[Node]:
    """Depth first; what the definitions do not know is left out, for profiles remove it."""
    type_ = resource.get("resourceType")
    if type_ in elements.resource_types:
        yield from _members(str(type_), resource, elements)


def _members(content: str, around: Json, elements: Elements) -> Iterator[Node]:
    fields = elements.fields(content)
    for key, value in around.items():
        field = fields.get(key)
        if field is None:
            continue
        for item in value if isinstance(value, list) else (value,):
            if item is None:
                continue
            yield Node(content, key, field.type, item, around)
            if not isinstance(item, dict):
                continue
            if field.type == "Resource" or item.get("resourceType") in elements.resource_types:
                yield from nodes(item, elements)
            elif field.content:
                yield from _members(field.content, item, elements)
