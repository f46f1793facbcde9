"""The R4 definitions at run time, read once from the compiled artefact."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

import msgspec

from fhir_server.definitions.additions import ADDITIONS
from fhir_server.definitions.elements import (
    Element,
    OperationDefinition,
    Package,
    SearchParameter,
    TypeDefinition,
    TypeRef,
)

ARTEFACT = "r4.msgpack.gz"

Members = Mapping[str, tuple[Element, TypeRef]]


class Definitions:
    """What FHIR R4 defines, by name. Everything is immutable and shared by all requests.

    A look-up of a type, path or compartment that does not exist raises KeyError.
    """

    def __init__(self, package: Package) -> None:
        self.version = package.version
        self._types = {t.name: t for t in package.types}
        self.resource_types = frozenset(
            t.name for t in package.types if t.kind == "resource" and not t.abstract
        )
        parameters = (*package.search_parameters, *ADDITIONS)
        self._parameters = _parameters_by_base(parameters)
        self._parameters_by_url = {p.url: p for p in parameters}
        self._compartments = package.compartments
        self._value_sets = package.value_sets
        self._code_systems = package.code_systems
        self._operations = package.operations
        self._children = _children_by_path(self._types.values())
        self._members: dict[str, Members] = {}
        self._searches: dict[str, Mapping[str, SearchParameter]] = {}
        self._codes: dict[str, frozenset[str]] = {}
        self._systems: dict[str, Mapping[str, frozenset[str]]] = {}

    # Types

    @property
    def types(self) -> Mapping[str, TypeDefinition]:
        """Every resource type and datatype, abstract ones too."""
        return self._types

    def type(self, name: str) -> TypeDefinition:
        return self._types[name]

    def ancestors(self, name: str) -> tuple[str, ...]:
        """The type itself, its base, and so on: Age, Quantity, Element."""
        base = self._types[name].base
        return (name, *self.ancestors(base)) if base in self._types else (name,)

    def is_a(self, name: str, base: str) -> bool:
        """Whether ``name`` is ``base`` or derived from it."""
        return base in self.ancestors(name)

    def primitive_pattern(self, name: str) -> str | None:
        """The published regular expression of a primitive type's whole text; None = any."""
        return self._types[name].pattern

    def element(self, path: str) -> Element:
        """The element of a snapshot path: ``Observation.value[x]``, or a type's root."""
        return self._types[path.partition(".")[0]].elements[path]

    def children(self, path: str) -> tuple[Element, ...]:
        """The elements below a type or an element, in order.

        An element with a content reference has the children of that element; one of a single
        datatype (``Observation.code``) has those of the datatype.
        """
        found = self._children.get(path)
        if found is not None:
            return found
        element = self.element(path)
        if element.content_reference is not None:
            found = self.children(element.content_reference)
        elif len(element.types) == 1:
            found = self.children(element.types[0].code)
        else:
            raise KeyError(path)
        self._children[path] = found
        return found

    def members(self, path: str) -> Members:
        """The JSON members of the same: name -> element and the type that the name says.

        A choice has one member for each of its types (``valueQuantity``); an element with a
        content reference has the type BackboneElement. ``_name`` members are not listed.
        """
        found = self._members.get(path)
        if found is None:
            found = MappingProxyType(
                {
                    child.json_name(type_.code): (child, type_)
                    for child in self.children(path)
                    for type_ in child.types or (_SHARED_CONTENT,)
                }
            )
            self._members[path] = found
        return found

    # Search, compartments, operations

    def search_parameters(self, type_: str) -> Mapping[str, SearchParameter]:
        """By code, those of Resource and DomainResource included where they apply."""
        found = self._searches.get(type_)
        if found is None:
            merged: dict[str, SearchParameter] = {}
            for base in reversed(self.ancestors(type_)):
                merged.update(self._parameters.get(base, {}))
            found = MappingProxyType(dict(sorted(merged.items())))
            self._searches[type_] = found
        return found

    def search_parameter(self, url: str) -> SearchParameter:
        """By canonical url, as the components of composites name them."""
        return self._parameters_by_url[url]

    @property
    def compartments(self) -> tuple[str, ...]:
        return tuple(self._compartments)

    def compartment(self, code: str) -> Mapping[str, tuple[str, ...]]:
        """type -> codes of the parameters that tie it to the compartment.

        ``_id`` stands for the compartment's own resource.
        """
        return self._compartments[code]

    def operations(self) -> tuple[OperationDefinition, ...]:
        return self._operations

    # Terminology

    def value_set_systems(self, url: str) -> Mapping[str, frozenset[str]] | None:
        """The codes per system of a value set that some element requires.

        None: not known here, so not to be checked as a list.
        """
        found = self._systems.get(url)
        if found is None:
            systems = self._value_sets.get(url)
            if systems is None:
                return None
            found = self._systems[url] = {s: frozenset(c) for s, c in systems.items()}
        return found

    def value_set_codes(self, url: str) -> frozenset[str] | None:
        """The codes alone, as an element of type code has them."""
        found = self._codes.get(url)
        if found is None:
            systems = self._value_sets.get(url)
            if systems is None:
                return None
            found = self._codes[url] = frozenset().union(*systems.values())
        return found

    def code_system_case_sensitive(self, url: str) -> bool | None:
        """CodeSystem.caseSensitive; None: not stated, or the system is unknown."""
        return self._code_systems.get(url)


_SHARED_CONTENT = TypeRef("BackboneElement")


def _children_by_path(types: Iterable[TypeDefinition]) -> dict[str, tuple[Element, ...]]:
    children: dict[str, list[Element]] = {}
    for type_ in types:
        children[type_.name] = []
        for path, element in type_.elements.items():
            if path != type_.name:
                children.setdefault(path.rpartition(".")[0], []).append(element)
    return {path: tuple(elements) for path, elements in children.items()}


def _parameters_by_base(
    parameters: tuple[SearchParameter, ...],
) -> dict[str, dict[str, SearchParameter]]:
    bases: dict[str, dict[str, SearchParameter]] = {}
    for parameter in parameters:
        for base in parameter.bases:
            bases.setdefault(base, {})[parameter.code] = parameter
    return bases


@cache
def load() -> Definitions:
    """The committed R4 artefact."""
    packed = resources.files(__package__).joinpath(ARTEFACT).read_bytes()
    return Definitions(msgspec.msgpack.decode(gzip.decompress(packed), type=Package))
