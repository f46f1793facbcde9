"""Rule paths: the part of FHIRPath that a walk can follow, as a tuple of steps.

``Patient.name.family``, ``Observation.value as Quantity``, ``X.y.ofType(T)``,
``X.extension('url')``, ``X.where(criteria)``, ``nodesByType('Address').state``,
``nodesByName('id')``, and any of these in a union (``a | b``). A ``where`` looks at its own node
only, so a rule can be decided on the way down and a resource is walked once, whatever the number
of rules.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from fhir_server.fhirpath.parse import parse as parse_fhirpath
from fhir_server.fhirpath.syntax import (
    Binary,
    Call,
    Literal,
    Member,
    Syntax,
    TypeName,
    TypeTest,
    Variable,
)


class PathError(ValueError):
    """A path that is not FHIRPath or beyond what a rule may use."""


class Axis(Enum):
    RESOURCE = "resource"
    CHILD = "child"
    NODES_BY_TYPE = "nodesByType"
    NODES_BY_NAME = "nodesByName"

    @property
    def deep(self) -> bool:
        return self in (Axis.NODES_BY_TYPE, Axis.NODES_BY_NAME)


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``value``: a type or element name; ``of``: a type; ``where``: all must hold."""

    axis: Axis
    value: str
    of: str | None = None
    where: tuple[Syntax, ...] = ()

    def accepts(self, name: str, type_: str) -> bool:
        """May an element of this name and type be what the step selects?"""
        wanted = type_ if self.axis is Axis.NODES_BY_TYPE else name
        return wanted == self.value and self.of in (None, type_)


Path = tuple[Step, ...]

_ANY_RESOURCE = Step(Axis.RESOURCE, "Resource")


def parse(text: str) -> tuple[Path, ...]:
    """The steps of a rule path, or of each in a union. Raises PathError."""
    try:
        tree = parse_fhirpath(text)
    except ValueError as error:
        raise PathError(str(error)) from None
    return tuple(_paths(tree))


def _paths(node: Syntax) -> Iterator[Path]:
    if isinstance(node, Binary) and node.operator == "|":
        yield from _paths(node.left)
        yield from _paths(node.right)
    else:
        yield tuple(_steps(node))


def rooted(path: Path, resource_types: Container[str]) -> Path:
    """``nodesByType('Observation')`` of any resource is the resource type."""
    deep = len(path) > 1 and path[0] == _ANY_RESOURCE and path[1].axis is Axis.NODES_BY_TYPE
    if not deep or path[1].value not in resource_types:
        return path
    return (replace(path[1], axis=Axis.RESOURCE), *path[2:])


def _steps(node: Syntax) -> list[Step]:
    match node:
        case Member(base=None, name=name):
            return [Step(Axis.RESOURCE, name)]
        case Member(base=base, name=name) if base is not None:
            return [*_steps(base), Step(Axis.CHILD, name)]
        case TypeTest(operator="as", operand=operand, type=type_):
            return _narrow(_steps(operand), type_)
        case Call():
            return _call(node)
        case _:
            raise PathError(f"not a rule path: {type(node).__name__}")


def _call(call: Call) -> list[Step]:
    base = _steps(call.base) if call.base is not None else [_ANY_RESOURCE]
    match call.name, call.arguments:
        case ("nodesByType" | "nodesByName") as name, (Literal(value=str(value)),):
            return [*base, Step(Axis(name), value)]
        case "extension", (Literal(value=str(url)),):
            return [*base, Step(Axis.CHILD, "extension", where=(_url_is(url),))]
        case (("ofType" | "as"), (argument,)):
            return _narrow(base, _type_name(argument))
        case "where", (criteria,) if call.base is not None:
            return [*base[:-1], replace(base[-1], where=(*base[-1].where, criteria))]
    raise PathError(f"{call.name}() has no place in a rule path")


def _url_is(url: str) -> Syntax:
    return Binary("=", Member(None, "url"), Literal(url))


def _type_name(argument: Syntax) -> TypeName:
    match argument:
        case TypeName():
            return argument
        case Member(base=None, name=name):
            return TypeName(None, name)
        case Member(base=Member(base=None, name=namespace), name=name):
            return TypeName(namespace, name)
    raise PathError("a type name is expected")


def _narrow(steps: list[Step], type_: TypeName) -> list[Step]:
    if steps[-1].axis in (Axis.RESOURCE, Axis.NODES_BY_TYPE) and type_.name != steps[-1].value:
        return [*steps, Step(Axis.NODES_BY_TYPE, type_.name)]
    if steps[-1].axis is not Axis.CHILD:
        raise PathError("a type filter follows an element")
    return [*steps[:-1], replace(steps[-1], of=type_.name)]


def equals_literal(criteria: Syntax, name: str) -> frozenset[str] | None:
    """The literals if ``criteria`` says ``name = 'a' or name = 'b' ...``; else None."""
    match criteria:
        case Binary("=", Member(base=None | Variable(), name=found), Literal(value=str(text))):
            return frozenset((text,)) if found == name else None
        case Binary("or", left, right):
            one, other = equals_literal(left, name), equals_literal(right, name)
            return one | other if one is not None and other is not None else None
    return None


class Open(NamedTuple):
    """A rule matched so far: ``step`` is the index of the step that a node below may take."""

    rule: int
    step: int


class Advance(NamedTuple):
    """What a node means for one rule, if ``where`` holds there; ``step`` None: it is matched."""

    rule: int
    step: int | None
    where: tuple[Syntax, ...]


def enter_resource(paths: Iterable[Path], types: frozenset[str]) -> list[Advance]:
    """All rules at the root of a resource; ``types``: its own and the abstract ones above."""
    return [
        Advance(rule, 1 if len(path) > 1 else None, path[0].where)
        for rule, path in enumerate(paths)
        if path[0].value in types
    ]


def enter_element(
    paths: tuple[Path, ...], opened: frozenset[Open], name: str, type_: str
) -> list[Advance]:
    """What the open rules become at a child of this name and type."""
    advances = []
    for rule, index in opened:
        step = paths[rule][index]
        if step.accepts(name, type_):
            done = index + 1 == len(paths[rule])
            advances.append(Advance(rule, None if done else index + 1, step.where))
        if step.axis.deep:
            advances.append(Advance(rule, index, ()))
    return advances
