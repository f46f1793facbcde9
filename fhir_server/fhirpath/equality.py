"""Equality, equivalence and order: http://hl7.org/fhirpath/N1/#equality."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.node import Collection, Item, Json, Node, as_quantity
from fhir_server.fhirpath.values import (
    SECONDS,
    UCUM_DURATIONS,
    Date,
    DateTime,
    Quantity,
    Time,
)

_TEMPORAL = (Date, DateTime, Time)
_CALENDAR_RATIO = {"year": 12, "month": 1}
_DAYS = {"year": 365, "month": 30}


def equal(run: Run, left: Collection, right: Collection) -> bool | None:
    """``left = right``: the same items in the same order; None when it cannot be known."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unknown = False
    for a, b in zip(left, right, strict=True):
        same = _equal_items(run, a, b)
        if same is False:
            return False
        unknown = unknown or same is None
    return None if unknown else True


def _equal_items(run: Run, a: Item, b: Item) -> bool | None:
    x, y = _aligned(a, b)
    kind = type(x)
    if kind is type(y) and kind in (str, bool, int):
        return bool(x == y)
    if x is None or y is None:
        return None
    if isinstance(x, bool) or isinstance(y, bool):
        return x is y
    if isinstance(x, int | Decimal) and isinstance(y, int | Decimal):
        return x == y
    if isinstance(x, _TEMPORAL) and isinstance(y, _TEMPORAL):
        if isinstance(x, Time) != isinstance(y, Time):
            return False
        order = x.compare(y)
        return None if order is None else order == 0
    if isinstance(x, Quantity) and isinstance(y, Quantity):
        return _equal_quantities(run, x, y)
    if isinstance(x, Node) and isinstance(y, Node):
        return bool(x.value == y.value)
    return False


def _aligned(a: Item, b: Item) -> tuple[Any, Any]:
    """Both as System values, implicitly converted to each other where the spec says so.

    A text of unknown type is read as the date that it is compared with: without a type
    model that is all there is to know.
    """
    x = a.system if type(a) is Node else a
    y = b.system if type(b) is Node else b
    if type(x) is type(y):
        if type(x) is Node:
            return _complex(x), _complex(y)  # type: ignore[arg-type]
        return x, y
    if isinstance(x, Node):
        x = _complex(x)
    if isinstance(y, Node):
        y = _complex(y)
    if isinstance(y, _TEMPORAL) and isinstance(x, str) and _untyped(a):
        x = _read(x, y)
    elif isinstance(x, _TEMPORAL) and isinstance(y, str) and _untyped(b):
        y = _read(y, x)
    if isinstance(x, Quantity) and _number(y):
        y = Quantity(Decimal(y))  # type: ignore[arg-type]
    elif isinstance(y, Quantity) and _number(x):
        x = Quantity(Decimal(x))  # type: ignore[arg-type]
    return x, y


def _number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _untyped(item: Item) -> bool:
    return isinstance(item, Node) and not item.type


def _read(text: str, like: Date | DateTime | Time) -> Any:
    try:
        if isinstance(like, Time):
            return Time.parse(text)
        return DateTime.parse(text) if "T" in text else Date.parse(text)
    except ValueError:
        return text


def _complex(node: Node) -> Quantity | Node:
    found = as_quantity(node)
    return node if found is None else found


def unit_factor(run: Run, quantity: Quantity, target: Quantity) -> Decimal | None:
    """The value of ``quantity`` in the unit of ``target``; None when not comparable."""
    if quantity.unit == target.unit:
        return quantity.value
    if quantity.calendar or target.calendar:
        return _calendar(quantity, target)
    try:
        return run.context.services.convert(quantity.value, quantity.unit, target.unit)
    except ValueError:
        return None


def _calendar(quantity: Quantity, target: Quantity) -> Decimal | None:
    """Calendar durations: years and months among themselves, the rest by their seconds.

    A calendar year is not a UCUM year (``a``): not comparable.
    """
    if quantity.calendar != target.calendar:
        coarse = _CALENDAR_RATIO.keys()
        names = [UCUM_DURATIONS.get(q.unit, q.unit) for q in (quantity, target)]
        if coarse & set(names):
            return None
        if not all(name in SECONDS for name in names):
            return None
        return quantity.value * SECONDS[names[0]] / SECONDS[names[1]]
    if quantity.unit in _CALENDAR_RATIO and target.unit in _CALENDAR_RATIO:
        return quantity.value * _CALENDAR_RATIO[quantity.unit] / _CALENDAR_RATIO[target.unit]
    return quantity.value * _seconds(quantity.unit) / _seconds(target.unit)


def _seconds(unit: str) -> Decimal:
    return SECONDS[unit] if unit in SECONDS else SECONDS["day"] * _DAYS[unit]


def _equal_quantities(run: Run, x: Quantity, y: Quantity) -> bool | None:
    value = unit_factor(run, y, x)
    return None if value is None else value == x.value


def compare(run: Run, a: Item, b: Item) -> int | None:
    """-1, 0, 1; None when it cannot be known. Raises FhirPathError across types."""
    x, y = _aligned(a, b)
    if x is None or y is None:
        return None
    if isinstance(x, Quantity) and isinstance(y, Quantity):
        value = unit_factor(run, y, x)
        return None if value is None else (x.value > value) - (x.value < value)
    if isinstance(x, _TEMPORAL) and isinstance(y, _TEMPORAL):
        if isinstance(x, Time) == isinstance(y, Time):
            return x.compare(y)
    elif (isinstance(x, str) and isinstance(y, str)) or (_number(x) and _number(y)):
        return bool(x > y) - bool(x < y)
    raise FhirPathError("Items of these types have no order")


def equivalent(run: Run, left: Collection, right: Collection) -> bool:
    """``left ~ right``: the same items in any order, with case and precision relaxed."""
    if len(left) != len(right):
        return False
    rest = list(right)
    for a in left:
        run.spend(len(rest))
        for i, b in enumerate(rest):
            if _equivalent_items(run, a, b):
                del rest[i]
                break
        else:
            return False
    return True


def _equivalent_items(run: Run, a: Item, b: Item) -> bool:
    x, y = _aligned(a, b)
    if isinstance(x, Node) and isinstance(y, Node):
        return _equivalent_json(x.value, y.value)
    if isinstance(x, Quantity) and isinstance(y, Quantity):
        if x.calendar != y.calendar:
            x, y = (_definite(q) for q in (x, y))
        value = unit_factor(run, y, x)
        return value is not None and _near(x.value, value)
    if isinstance(x, _TEMPORAL) and isinstance(y, _TEMPORAL):
        return isinstance(x, Time) == isinstance(y, Time) and x.compare(y) == 0
    return _equivalent_json(x, y)


def _definite(quantity: Quantity) -> Quantity:
    return Quantity(quantity.value, UCUM_DURATIONS.get(quantity.unit, quantity.unit))


def _equivalent_json(x: Json, y: Json) -> bool:
    if isinstance(x, str) and isinstance(y, str):
        return " ".join(x.casefold().split()) == " ".join(y.casefold().split())
    if isinstance(x, bool) or isinstance(y, bool):
        return x is y
    if _number(x) and _number(y):
        return _near(Decimal(x), Decimal(y))
    if isinstance(x, dict) and isinstance(y, dict):
        names = (x.keys() | y.keys()) - {"id"}
        return all(n in x and n in y and _equivalent_json(x[n], y[n]) for n in names)
    if isinstance(x, list) and isinstance(y, list):
        rest = list(y)
        for item in x:
            match = next((o for o in rest if _equivalent_json(item, o)), None)
            if match is None:
                return False
            rest.remove(match)
        return not rest
    return type(x) is type(y) and x == y


def _near(x: Decimal, y: Decimal) -> bool:
    """Equal when rounded to the precision of the less precise, trailing zeroes ignored."""
    places = min(_places(x), _places(y))
    unit = Decimal(1).scaleb(-places)
    return x.quantize(unit, ROUND_HALF_UP) == y.quantize(unit, ROUND_HALF_UP)


def _places(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
