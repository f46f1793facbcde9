"""The definitions as a walk needs them: the fields of an object by their JSON name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions


class Field(NamedTuple):
    """One JSON property (``valueQuantity``) of one element (``value[x]``).

    ``content``: whose children a complex value has, a type or an element path; empty for a
    primitive. ``type``: the FHIR type, ``Resource`` for any resource. ``values``: the codes
    of a required binding, None if it is open.
    """

    key: str
    name: str
    type: str
    content: str
    many: bool
    required: bool
    values: frozenset[str] | None = None


class Elements:
    """The fields of every type and element path. ``resource_types``: the concrete ones."""

    def __init__(self, definitions: Definitions) -> None:
        self.resource_types = definitions.resource_types
        self._definitions = definitions
        self._fields: dict[str, Mapping[str, Field]] = {}

    def fields(self, content: str) -> Mapping[str, Field]:
        """The fields by JSON name. KeyError if there is no such type or path."""
        found = self._fields.get(content)
        if found is None:
            members = self._definitions.members(content)
            found = {key: self._field(key, *member) for key, member in members.items()}
            self._fields[content] = found
        return found

    def ancestry(self, type_: str) -> frozenset[str]:
        """A type and those above it: Patient, DomainResource, Resource. KeyError if unknown."""
        return frozenset(self._definitions.ancestors(type_))

    def is_type(self, name: str) -> bool:
        return name in self._definitions.types

    def types(self) -> frozenset[str]:
        """The names of all types."""
        return frozenset(self._definitions.types)

    def is_primitive(self, name: str) -> bool:
        """Raises KeyError for an unknown type."""
        return self._definitions.type(name).kind == "primitive-type"

    def descendants(self, type_: str) -> list[str]:
        """The concrete resource types that a rule on ``type_`` speaks of."""
        return sorted(t for t in self.resource_types if self._definitions.is_a(t, type_))

    def names(self) -> frozenset[str]:
        """Every element name that the definitions know."""
        types = self._definitions.types.values()
        return frozenset(element.name for type_ in types for element in type_.elements.values())

    def _field(self, key: str, element: Element, type_: TypeRef) -> Field:
        values = None
        if element.binding is not None and element.binding.strength == "required":
            values = self._definitions.value_set_codes(element.binding.value_set)
        return Field(
            key=key,
            name=element.name,
            type=type_.code,
            content=self._content(element, type_),
            many=element.max is None or element.max > 1,
            required=element.min > 0,
            values=values if type_.code == "code" else None,
        )

    def _content(self, element: Element, type_: TypeRef) -> str:
        if element.content_reference is not None:
            return element.content_reference
        kind = self._definitions.type(type_.code)
        if kind.kind != "complex-type":
            return ""
        return element.path if kind.name in ("BackboneElement", "Element") else kind.name
