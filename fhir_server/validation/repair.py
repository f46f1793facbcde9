"""Repair of what other systems export: for bulk loading only, never for a request.

FHIR JSON has no empty arrays, objects and strings, so they vanish. Content under names that
FHIR R4 does not define moves, as JSON text, into an extension of the element that had it:
nothing is lost and the resource becomes one that R4 knows. Every repair is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json

UNKNOWN_ELEMENT: Final = "urn:vehr:extension:unknown-element"
"""Extension with the parts ``name`` (string) and ``json`` (string)."""

_INLINE: Final = frozenset({"BackboneElement", "Element"})
Members = Mapping[str, tuple[Element, TypeRef]]


@dataclass(slots=True)
class Repaired:
    """``resource``: a repaired copy. ``repairs``: ``Type.path: what`` without positions."""

    resource: Json
    repairs: list[str] = field(default_factory=list)


def repair(resource: Json, definitions: Definitions) -> Repaired:
    """The resource with what R4 does not have moved or removed; the input is unchanged."""
    walk = _Walk(definitions)
    type_ = resource["resourceType"]
    return Repaired(walk.fields(resource, type_, type_), walk.repairs)


class _Walk:
    def __init__(self, definitions: Definitions) -> None:
        self.repairs: list[str] = []
        self._definitions = definitions

    def fields(self, value: Json, path: str, place: str) -> Json:
        """One object, whose members are those of ``path`` in the definitions."""
        members = self._definitions.members(path)
        kept: Json = {}
        moved: list[Json] = []
        for name, inner in value.items():
            bare = name.removeprefix("_")
            if name == "resourceType":
                kept[name] = inner
            elif bare not in members:
                self.repairs.append(f"{place}.{name}: unknown element")
                if not _empty(inner):
                    moved.append(_unknown(name, inner))
            else:
                self._member(kept, name, inner, members[bare], f"{place}.{name}")
        if moved and "extension" in members:
            kept["extension"] = [*kept.get("extension", ()), *moved]
        return kept

    def _member(
        self, kept: Json, name: str, inner: Any, known: tuple[Element, TypeRef], place: str
    ) -> None:
        path = self._below(name, known, inner)
        if path and isinstance(inner, dict):
            inner = self.fields(inner, path, place)
        elif path and isinstance(inner, list):
            inner = self._items(inner, path, place)
        if _empty(inner):
            self.repairs.append(f"{place}: empty")
        else:
            kept[name] = inner

    def _items(self, items: list[Any], path: str, place: str) -> list[Any]:
        mended = [
            self.fields(item, path, place) if isinstance(item, dict) else item for item in items
        ]
        left = [item for item in mended if not _empty(item)]
        if len(left) < len(items):
            self.repairs.append(f"{place}: empty")
        return left

    def _below(self, name: str, known: tuple[Element, TypeRef], inner: Any) -> str:
        """Where the definitions keep the members of a value, "" for a primitive."""
        element, type_ = known
        if type_.code == "Resource":
            types = self._definitions.resource_types
            sample = inner[0] if isinstance(inner, list) and inner else inner
            found = sample.get("resourceType") if isinstance(sample, dict) else None
            # Contained resources of several types are left to validation.
            same = not isinstance(inner, list) or len(inner) == 1
            return found if isinstance(found, str) and found in types and same else ""
        if self._definitions.type(type_.code).kind == "primitive-type":
            return ""
        return element.path if type_.code in _INLINE else type_.code


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _unknown(name: str, value: Any) -> Json:
    return {
        "url": UNKNOWN_ELEMENT,
        "extension": [
            {"url": "name", "valueString": name},
            {"url": "json", "valueString": dumps(value).decode()},
        ],
    }
