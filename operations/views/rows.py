"""The rows of a resource by a view, compiled once to closures.

https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/StructureDefinition-ViewDefinition.html: the parts of
a select (its columns, each nested select, its ``unionAll``) are joined as a cross product; a
``forEachOrNull`` that finds nothing is evaluated once over nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final, TypeAlias

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Budget, Context, Expression, FhirPathError, Node, Property
from fhir_server.fhirpath.node import PRIMITIVES, Collection, Item, root
from fhir_server.fhirpath.values import Date, DateTime, Quantity, Time
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

from .definition import ROW_INDEX, Column, Select, View, fits

BUDGET: Final = Budget(steps=200_000, items=20_000, characters=1_000_000)
"""Of one expression on one item."""
MOST: Final = 100_000
"""Rows of one resource, and items of a ``repeat``."""

Row: TypeAlias = tuple[Any, ...]
"""JSON values in the order of the columns; a collection is a list."""

_Part: TypeAlias = Callable[[Node], list[Row]]
_NOTHING: Final = Property("", "")


class Rows:
    """A view at work. Not to be shared between tasks: it counts rows while it works."""

    def __init__(self, view: View) -> None:
        self.view: Final = view
        self._constants: dict[str, Any] = {**view.constants, ROW_INDEX: 0}
        self._context = Context(model=r4_model(), constants=self._constants, budget=BUDGET)
        self._parts = [self._select(select) for select in view.select]

    def of(self, resource: Json) -> list[Row]:
        """Of one resource; none for a resource of another type.

        Raises Unprocessable: a criterion that is no boolean, several values where one is
        expected, a value of another type than the column's, an expression that fails.
        """
        if resource.get("resourceType") != self.view.resource:
            return []
        start = root(resource)
        self._constants[ROW_INDEX] = 0
        if not all(self._holds(criterion, at, start) for criterion, at in self.view.where):
            return []
        return _joined([part(start) for part in self._parts])

    def _items(self, expression: Expression, at: str, start: Node) -> Collection:
        try:
            return expression.items(start, self._context)
        except FhirPathError as error:
            text = f"{expression.text[:100]!r}: {error}"
            raise Unprocessable(text, code="processing", expression=at) from None

    def _holds(self, criterion: Expression, at: str, start: Node) -> bool:
        values = [json_of(item) for item in self._items(criterion, at, start)]
        if not values:
            return False
        if len(values) > 1 or not isinstance(values[0], bool):
            text = f"{criterion.text[:100]!r} is no boolean"
            raise Unprocessable(text, code="processing", expression=at)
        return values[0]

    def _select(self, select: Select) -> _Part:
        parts: list[_Part] = []
        if select.columns:
            parts.append(self._columns(select.columns))
        parts += [self._select(inner) for inner in select.selects]
        if select.unions:
            parts.append(_concatenated([self._select(branch) for branch in select.unions]))

        def rows(node: Node) -> list[Row]:
            return _joined([part(node) for part in parts])

        return self._for_each(select, rows) if select.mode else rows

    def _columns(self, columns: Iterable[Column]) -> _Part:
        def row(node: Node) -> list[Row]:
            return [tuple([self._cell(column, node) for column in columns])]

        return row

    def _cell(self, column: Column, node: Node) -> Any:
        items = self._items(column.path, column.place, node)
        values = [v for v in (json_of(item) for item in items) if v is not None]
        for value in values:
            if not _suits(column.type, value):
                text = f"the column {column.name} is of type {column.type}: {str(value)[:40]!r}"
                raise Unprocessable(text, code="processing", expression=column.place)
        if column.collection:
            return values
        if len(values) > 1:
            text = f"the column {column.name} has {len(values)} values; collection is not true"
            raise Unprocessable(text, code="processing", expression=column.place)
        return values[0] if values else None

    def _for_each(self, select: Select, rows: _Part) -> _Part:
        def each(node: Node) -> list[Row]:
            items = self._found(select, node)
            if not items and select.mode == "forEachOrNull":
                items = [Node({}, None, node, _NOTHING, None)]
            outer = self._constants[ROW_INDEX]
            found: list[Row] = []
            for self._constants[ROW_INDEX], item in enumerate(items):
                found += rows(item)
                _bounded(len(found))
            self._constants[ROW_INDEX] = outer
            return found

        return each

    def _found(self, select: Select, node: Node) -> list[Node]:
        if select.mode == "repeat":
            found: list[Node] = []
            self._descend(select.each, node, found)
            return found
        items = self._items(select.each[0], select.mode, node)
        return [_node(item, node) for item in items]

    def _descend(self, paths: tuple[Expression, ...], node: Node, found: list[Node]) -> None:
        """Depth first: what a path finds, then what all paths find from there."""
        for path in paths:
            for item in self._items(path, "repeat", node):
                below = _node(item, node)
                found.append(below)
                _bounded(len(found))
                if isinstance(item, Node):
                    self._descend(paths, below, found)


def _joined(parts: list[list[Row]]) -> list[Row]:
    """The cross product, the first part slowest."""
    rows: list[Row] = [()]
    for part in parts:
        _bounded(len(rows) * len(part))
        rows = [(*row, *further) for row in rows for further in part]
    return rows


def _concatenated(branches: list[_Part]) -> _Part:
    return lambda node: [row for branch in branches for row in branch(node)]


def _bounded(count: int) -> None:
    if count > MOST:
        raise Unprocessable(f"more than {MOST} rows of one resource", code="too-costly")


def _node(item: Item, parent: Node) -> Node:
    """An item to start from; a System value is an element without a type."""
    if isinstance(item, Node):
        return item
    return Node(json_of(item), None, parent, _NOTHING, None)


def json_of(item: Item) -> Any:
    """What stands in a row; None for a primitive without a value."""
    if isinstance(item, Node):
        return item.value
    if isinstance(item, Date | DateTime | Time):
        return str(item)
    if isinstance(item, Quantity):
        return {"value": item.value, "unit": item.unit}
    return item


def _suits(type_: str, value: Any) -> bool:
    """A type that is no primitive one is not looked into."""
    if type_ in PRIMITIVES or type_ == "integer64":
        return fits(type_, value)
    return not type_ or isinstance(value, dict | str | Decimal | int)
