"""The FHIR definitions as FHIRPath's type model: https://hl7.org/fhir/R4/fhirpath.html#types."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions, load
from fhir_server.fhirpath.node import Property

_NESTED = frozenset(("BackboneElement", "Element"))
_NO_ELEMENTS: Mapping[str, tuple[Property, ...]] = {}


class DefinitionsModel:
    """A TypeModel over ``Definitions``; what was asked once is kept."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._elements: dict[str, Mapping[str, tuple[Property, ...]]] = {}
        self._ancestors = {
            name: frozenset(definitions.ancestors(name)) for name in definitions.types
        }

    def elements(self, path: str) -> Mapping[str, tuple[Property, ...]]:
        """The elements below ``HumanName`` or ``Patient.contact``, none for an unknown path."""
        found = self._elements.get(path)
        if found is None:
            try:
                children = self._definitions.children(path)
            except KeyError:
                return _NO_ELEMENTS
            found = {child.name: _properties(child) for child in children}
            self._elements[path] = found
        return found

    def is_type(self, name: str) -> bool:
        return name in self._ancestors

    def is_subtype(self, name: str, ancestor: str) -> bool:
        return ancestor in self._ancestors.get(name, ())


def _properties(element: Element) -> tuple[Property, ...]:
    types = element.types or (TypeRef("BackboneElement"),)
    return tuple(
        Property(element.name, element.json_name(t.code), t.code, _path(element, t.code))
        for t in types
    )


def _path(element: Element, type_: str) -> str:
    return element.path if type_ in _NESTED else type_


@cache
def r4_model() -> DefinitionsModel:
    """The model of the R4 definitions."""
    return DefinitionsModel(load())
