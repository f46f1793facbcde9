"""Operators on collections: http://hl7.org/fhirpath/N1/#operations."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Any

from fhir_server.fhirpath import values
from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.equality import compare, equal, equivalent, unit_factor
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.node import Collection, Item, Node, as_quantity
from fhir_server.fhirpath.values import Date, DateTime, Quantity, System, Time

Operator = Callable[[Run, Collection, Collection], Collection]
_MAX_INTEGER = 2**31 - 1


def singleton(items: Collection, what: str) -> System | Node | None:
    """The one System value (or complex element) of a collection, None when it is empty."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"{what} takes one item, not {len(items)}")
    item = items[0]
    return item.system if type(item) is Node else item


def boolean(items: Collection, what: str) -> bool | None:
    """Singleton evaluation of booleans: one item that is not a boolean counts as true."""
    value = singleton(items, what)
    return value if value is None or isinstance(value, bool) else True


def number(value: int | Decimal) -> Collection:
    """An Integer or Decimal, or nothing when it overflows."""
    if isinstance(value, Decimal):
        return [value] if value.is_finite() else []
    return [value] if -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _arithmetic(symbol: str) -> Callable[[Callable[[Run, Any, Any], Collection]], Operator]:
    """Singleton operands; empty when one is empty; overflow and division by zero are empty."""

    def wrap(operation: Callable[[Run, Any, Any], Collection]) -> Operator:
        def operator(run: Run, left: Collection, right: Collection) -> Collection:
            a, b = singleton(left, symbol), singleton(right, symbol)
            if a is None or b is None:
                return []
            try:
                with localcontext(prec=34):
                    return operation(run, a, b)
            except (InvalidOperation, Overflow, DivisionByZero, ZeroDivisionError):
                return []

        return operator

    return wrap


def _refuse(symbol: str, a: object, b: object) -> FhirPathError:
    return FhirPathError(f"{symbol} does not take {_kind(a)} and {_kind(b)}")


def _kind(value: Any) -> str:
    return value.type or "an element" if isinstance(value, Node) else values.type_name(value)


@_arithmetic("+")
def plus(run: Run, a: Any, b: Any) -> Collection:
    if _is_number(a) and _is_number(b):
        return number(a + b)
    if isinstance(a, str) and isinstance(b, str):
        return [run.text(a + b)]
    return _move(run, "+", a, b, 1)


@_arithmetic("-")
def minus(run: Run, a: Any, b: Any) -> Collection:
    if _is_number(a) and _is_number(b):
        return number(a - b)
    return _move(run, "-", a, b, -1)


def _move(run: Run, symbol: str, a: Any, b: Any, sign: int) -> Collection:
    if isinstance(a, Date | DateTime | Time) and not _is_number(b):
        duration = as_quantity(b)
        if duration is None:
            raise _refuse(symbol, a, b)
        try:
            moved = values.add(a, Quantity(duration.value * sign, duration.unit))
        except ValueError as error:
            raise FhirPathError(str(error)) from None
        return [] if moved is None else [moved]
    x, y = as_quantity(a), as_quantity(b)
    if x is None or y is None:
        raise _refuse(symbol, a, b)
    factor = unit_factor(run, y, x)
    return [] if factor is None else [Quantity(x.value + sign * factor, x.unit)]


@_arithmetic("*")
def times(run: Run, a: Any, b: Any) -> Collection:
    if _is_number(a) and _is_number(b):
        return number(a * b)
    x, y = as_quantity(a), as_quantity(b)
    if x is None or y is None:
        raise _refuse("*", a, b)
    unit = x.unit if y.unit == "1" else y.unit if x.unit == "1" else f"{x.unit}.{_group(y.unit)}"
    return [Quantity(x.value * y.value, run.text(unit))]


@_arithmetic("/")
def divide(run: Run, a: Any, b: Any) -> Collection:
    if _is_number(a) and _is_number(b):
        return number(Decimal(a) / b)
    x, y = as_quantity(a), as_quantity(b)
    if x is None or y is None:
        raise _refuse("/", a, b)
    if x.unit == y.unit:
        return [Quantity(x.value / y.value)]
    unit = x.unit if y.unit == "1" else f"{x.unit}/{_group(y.unit)}"
    return [Quantity(x.value / y.value, run.text(unit))]


def _group(unit: str) -> str:
    return f"({unit})" if "/" in unit or "." in unit else unit


@_arithmetic("div")
def div(run: Run, a: Any, b: Any) -> Collection:
    if not (_is_number(a) and _is_number(b)):
        raise _refuse("div", a, b)
    return number(int(Decimal(a) // Decimal(b)))


@_arithmetic("mod")
def mod(run: Run, a: Any, b: Any) -> Collection:
    if not (_is_number(a) and _is_number(b)):
        raise _refuse("mod", a, b)
    rest = Decimal(a) % Decimal(b)
    return number(int(rest) if isinstance(a, int) and isinstance(b, int) else rest)


def concatenate(run: Run, left: Collection, right: Collection) -> Collection:
    texts = []
    for value in (singleton(left, "&"), singleton(right, "&")):
        if not (value is None or isinstance(value, str)):
            raise FhirPathError(f"& does not take {_kind(value)}")
        texts.append(value or "")
    return [run.text("".join(texts))]


def negative(items: Collection) -> Collection:
    """Unary minus; of a text the same text, which ``sort`` reads as descending."""
    value = singleton(items, "-")
    if value is None:
        return []
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return [-value]
    if isinstance(value, Quantity):
        return [Quantity(-value.value, value.unit)]
    raise FhirPathError(f"- does not take {_kind(value)}")


def positive(items: Collection) -> Collection:
    negative(items)
    return items


def _answer(value: bool | None) -> Collection:
    return [] if value is None else [value]


def _ordered(symbol: str, holds: Callable[[int], bool]) -> Operator:
    def operator(run: Run, left: Collection, right: Collection) -> Collection:
        if not left or not right:
            return []
        if len(left) > 1 or len(right) > 1:
            raise FhirPathError(f"{symbol} takes single items")
        order = compare(run, left[0], right[0])
        return [] if order is None else [holds(order)]

    return operator


def equals(run: Run, left: Collection, right: Collection) -> Collection:
    return _answer(equal(run, left, right))


def not_equals(run: Run, left: Collection, right: Collection) -> Collection:
    answer = equal(run, left, right)
    return [] if answer is None else [not answer]


def is_equivalent(run: Run, left: Collection, right: Collection) -> Collection:
    return [equivalent(run, left, right)]


def not_equivalent(run: Run, left: Collection, right: Collection) -> Collection:
    return [not equivalent(run, left, right)]


def is_in(run: Run, left: Collection, right: Collection) -> Collection:
    if not left:
        return []
    if len(left) > 1:
        raise FhirPathError("in takes one item on its left")
    return [contains_item(run, right, left[0])]


def contains(run: Run, left: Collection, right: Collection) -> Collection:
    return is_in(run, right, left)


def contains_item(run: Run, items: Collection, item: Item) -> bool:
    run.spend(len(items))
    return any(equal(run, [other], [item]) is True for other in items)


def union(run: Run, left: Collection, right: Collection) -> Collection:
    return distinct(run, [*left, *right])


def distinct(run: Run, items: Collection) -> Collection:
    """Without repetitions, in order of appearance."""
    if len(items) < 2:
        return items
    run.bounded(items)
    simple: set[object] = set()
    kept: Collection = []
    others: Collection = []
    for item in items:
        value = item.system if type(item) is Node else item
        if isinstance(value, str | int | Decimal):
            mark = (isinstance(value, bool), value)
            if mark not in simple:
                simple.add(mark)
                kept.append(item)
        elif not contains_item(run, others, item):
            others.append(item)
            kept.append(item)
    return kept


OPERATORS: dict[str, Operator] = {
    "+": plus,
    "-": minus,
    "*": times,
    "/": divide,
    "div": div,
    "mod": mod,
    "&": concatenate,
    "=": equals,
    "!=": not_equals,
    "~": is_equivalent,
    "!~": not_equivalent,
    "<": _ordered("<", lambda order: order < 0),
    "<=": _ordered("<=", lambda order: order <= 0),
    ">": _ordered(">", lambda order: order > 0),
    ">=": _ordered(">=", lambda order: order >= 0),
    "|": union,
    "in": is_in,
    "contains": contains,
}


# http://hl7.org/fhirpath/N1/#boolean-logic: (left, right) -> result; None is empty
def both(a: bool | None, b: bool | None) -> bool | None:
    return False if a is False or b is False else None if a is None or b is None else True


def either(a: bool | None, b: bool | None) -> bool | None:
    return True if a or b else None if a is None or b is None else False


def one(a: bool | None, b: bool | None) -> bool | None:
    return None if a is None or b is None else a != b


def implies(a: bool | None, b: bool | None) -> bool | None:
    return either(None if a is None else not a, b)


# operator -> (its table, the left value that settles it without the right side)
LOGIC: dict[str, tuple[Callable[[bool | None, bool | None], bool | None], bool | None]] = {
    "and": (both, False),
    "or": (either, True),
    "xor": (one, None),
    "implies": (implies, False),
}
