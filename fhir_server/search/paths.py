"""SearchParameter expressions, resolved against the element definitions.

An expression becomes a ``Path``: the JSON members to walk, the filters on the way and the
datatype at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from fhir_server.definitions.elements import Component, Element, SearchParameter, TypeRef
from fhir_server.definitions.registry import Definitions
from fhir_server.search.expression import (
    Field,
    First,
    HasExtension,
    NotFalse,
    OfType,
    Resolves,
    Step,
    Where,
    parse_expression,
)
from fhir_server.search.parameters import KINDS

Filter = Where | HasExtension | Resolves
ABSTRACT: Final = ("Resource", "DomainResource", "")
SWAPPED: Final = ("http://hl7.org/fhir/SearchParameter/DocumentReference-relationship",)
"""R4 gives ``code`` the definition of ``target`` and the other way round."""
USAGES: Final = ("normal", "nearby")


class Hop(NamedTuple):
    """One JSON member: its name, whether it is a list, only its first, then filters."""

    member: str
    many: bool
    first: bool = False
    filters: tuple[Filter, ...] = ()


class Path(NamedTuple):
    """From a resource to values of one datatype. ``not_false``: one boolean per resource.

    ``parts``: of a composite, (parameter type, paths from its element) of each component; a
    component without paths reads the whole resource.
    """

    hops: tuple[Hop, ...]
    type: str
    binding: str | None = None
    not_false: bool = False
    parts: tuple[tuple[str, tuple[Path, ...]], ...] = ()


class Resolver:
    """Expressions to paths, by the element definitions."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def paths(self, type: str, definition: SearchParameter) -> Iterator[Path]:
        kind = KINDS.get(definition.type)
        if kind is None or definition.expression is None or definition.usage not in USAGES:
            return
        if definition.type == "composite":
            yield from self._composites(type, definition)
            return
        for branch in parse_expression(definition.expression):
            if branch.root == type or branch.root in ABSTRACT:
                for path in self._walk(type, branch.steps, (), type):
                    if path.type in kind.readers:
                        yield path
                    elif path.type == "Extension":
                        yield from self._extension_values(path, kind.readers)

    def _composites(self, type: str, definition: SearchParameter) -> Iterator[Path]:
        """One path to each kind of element that has all the components."""
        assert definition.expression is not None
        for branch in parse_expression(definition.expression):
            if branch.root != type:
                continue
            for path in self._walk(type, branch.steps, (), type):
                parts = tuple(self._part(type, path, one) for one in components(definition))
                if all(
                    paths or _of_resource(one)
                    for (_, paths), one in zip(parts, components(definition), strict=True)
                ):
                    yield path._replace(type="composite", parts=parts)

    def _part(self, type: str, element: Path, one: Component) -> tuple[str, tuple[Path, ...]]:
        kind = self._definitions.search_parameter(one.definition).type
        if _of_resource(one):
            return kind, ()
        at, last = type, type
        for hop in element.hops:
            child, type_ = self._members(at)[hop.member]
            at, last = _below(child, type_), type_.code
        readers = KINDS[kind].readers
        # R4 writes value.as(DateTime), which is no type.
        expression = one.expression.replace("as(DateTime)", "as(dateTime)")
        return kind, tuple(
            path
            for branch in parse_expression(expression)
            for path in self._walk(at, branch.steps, (), last)
            if path.type in readers
        )

    def _extension_values(self, path: Path, readers: Mapping[str, object]) -> Iterator[Path]:
        for member, (element, type_) in self._definitions.members("Extension").items():
            if element.name == "value" and type_.code in readers:
                yield Path((*path.hops, Hop(member, False)), type_.code)

    def _walk(
        self,
        at: str,
        steps: tuple[Step, ...],
        hops: tuple[Hop, ...],
        type: str,
        binding: str | None = None,
    ) -> Iterator[Path]:
        """``at``: a type or element path to go on from; ``type``: the datatype there."""
        if not steps:
            yield Path(hops, type, binding)
            return
        step, rest = steps[0], steps[1:]
        match step:
            case Field(name):
                for member, (element, type_) in self._members(at).items():
                    # Guides write valueDateTime too, as US Core 6.1 does, where FHIRPath says
                    # value.ofType(dateTime).
                    if name in (element.name, member):
                        yield from self._walk(
                            _below(element, type_),
                            rest,
                            (*hops, Hop(member, element.max != 1)),
                            type_.code,
                            _binding(element),
                        )
            case OfType(wanted):
                if self._definitions.is_a(type, wanted):
                    yield from self._walk(at, rest, hops, type, binding)
            case Where() | HasExtension() | Resolves():
                if hops and not (isinstance(step, Resolves) and type != "Reference"):
                    last = hops[-1]._replace(filters=(*hops[-1].filters, step))
                    yield from self._walk(at, rest, (*hops[:-1], last), type, binding)
            case First():
                yield from self._walk(
                    at, rest, (*hops[:-1], hops[-1]._replace(first=True)), type, binding
                )
            case NotFalse():
                yield Path(hops, "boolean", None, True)

    def _members(self, at: str) -> Mapping[str, tuple[Element, TypeRef]]:
        try:
            return self._definitions.members(at)
        except KeyError:  # a primitive, or an element of several types
            return {}


def components(definition: SearchParameter) -> tuple[Component, ...]:
    """The components of a composite, as they are meant."""
    if definition.url not in SWAPPED:
        return definition.components
    first, second = definition.components
    return (
        Component(second.definition, first.expression),
        Component(first.definition, second.expression),
    )


def _of_resource(component: Component) -> bool:
    """Whether a component reads the whole resource, not the element of the composite."""
    return component.expression.startswith("%resource.")


def _below(element: Element, type_: TypeRef) -> str:
    if type_.code in ("BackboneElement", "Element"):
        return element.path
    return type_.code


def _binding(element: Element) -> str | None:
    binding = element.binding
    return binding.value_set if binding is not None and binding.strength == "required" else None
