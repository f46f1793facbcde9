"""What a function is: a row with its name, parameters, document and an example that is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from fhir_server.fhirpath.context import Lambda
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.node import Collection, Json, Node
from fhir_server.fhirpath.values import Quantity


class Kind(Enum):
    """How a parameter (or the input) reaches the implementation."""

    COLLECTION = "collection"
    LAMBDA = "lambda"  # not evaluated: called with $this
    KEY = "sort key"  # a SortKey
    TYPE = "type"  # a TypeName
    # one System value; an empty collection makes the result empty
    TEXT = "String"
    INTEGER = "Integer"
    NUMBER = "Integer or Decimal"
    QUANTITY = "Integer, Decimal or Quantity"
    ANY = "one item"


@dataclass(frozen=True, slots=True)
class SortKey:
    """A key of ``sort``; a minus before the expression means from high to low."""

    lambda_: Lambda
    descending: bool


@dataclass(frozen=True, slots=True)
class Example:
    """``expression`` gives ``result`` (JSON-like System values) on an empty subject."""

    expression: str
    result: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A row. ``call(run, input, *arguments)`` gives a collection.

    ``parameters``: the kinds in order, the last of which repeats when ``repeats``;
    ``required``: how many must be given.
    """

    name: str
    call: Callable[..., Collection]
    parameters: tuple[Kind, ...]
    required: int
    doc: str
    example: Example
    repeats: bool = False

    def kind(self, position: int) -> Kind:
        """The kind of an argument. Raises FhirPathError when there is no such parameter."""
        if position < len(self.parameters):
            return self.parameters[position]
        if self.repeats:
            return self.parameters[-1]
        raise FhirPathError(f"{self.name}() takes at most {len(self.parameters)} arguments")


def function(
    name: str,
    call: Callable[..., Collection],
    *parameters: Kind,
    doc: str,
    example: tuple[Any, ...],
    optional: int = 0,
    repeats: bool = False,
) -> Function:
    """A row over collections. ``example``: the expression, then its results."""
    shown = Example(example[0], example[1:])
    return Function(name, call, parameters, len(parameters) - optional, doc, shown, repeats)


def scalar(
    name: str,
    pure: Callable[..., Any],
    given: Kind,
    *parameters: Kind,
    doc: str,
    example: tuple[Any, ...],
    optional: int = 0,
) -> Function:
    """A row over single values: ``pure(input, *arguments)`` gives a value, a list or None.

    Empty input or arguments give the empty collection.
    """

    def call(run: Any, items: Collection, *arguments: Collection) -> Collection:
        run.spend(1)
        values = [value_of(name, given, items)]
        for kind, argument in zip(parameters, arguments, strict=False):
            values.append(value_of(name, kind, argument))
        if any(value is None for value in values):
            return []
        result = pure(*values)
        if isinstance(result, list):
            return run.bounded(result)  # type: ignore[no-any-return]
        if isinstance(result, str):
            run.text(result)
        return [] if result is None else [result]

    return function(name, call, *parameters, doc=doc, example=example, optional=optional)


def value_of(name: str, kind: Kind, items: Collection) -> Any:
    """The one value of a collection, None when empty. Raises FhirPathError on another type."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"{name}() takes one item, not {len(items)}")
    item = items[0]
    value: Json = item.system if isinstance(item, Node) else item
    if value is None or kind is Kind.ANY:
        return value
    if not _fits(kind, value):
        raise FhirPathError(f"{name}() takes {kind.value}")
    return value


def _fits(kind: Kind, value: Json) -> bool:
    match kind:
        case Kind.TEXT:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER:
            return isinstance(value, int | Decimal) and not isinstance(value, bool)
        case Kind.QUANTITY:
            return isinstance(value, int | Decimal | Quantity) and not isinstance(value, bool)
        case _:
            return True
