"""Conversion: http://hl7.org/fhirpath/N1/#conversion.

Each ``toX`` gives the value or None; ``convertsToX`` asks whether it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from fhir_server.fhirpath.functions.registry import Function, Kind, scalar
from fhir_server.fhirpath.node import Node, as_quantity
from fhir_server.fhirpath.values import Date, DateTime, Quantity, Time

_T = TypeVar("_T")
_TRUE = frozenset(("true", "t", "yes", "y", "1", "1.0"))
_FALSE = frozenset(("false", "f", "no", "n", "0", "0.0"))
_INTEGER = re.compile(r"[+-]?\d{1,10}")
_DECIMAL = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?")


def to_boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return True if value == 1 else False if value == 0 else None
    if isinstance(value, str):
        folded = value.lower()
        return True if folded in _TRUE else False if folded in _FALSE else None
    return None


def to_integer(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        number = int(value)
        return number if -(2**31) <= number < 2**31 else None
    return None


def to_decimal(value: Any) -> Decimal | None:
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Decimal(value)
    return None


def to_string(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Node):
        found = as_quantity(value)
        return None if found is None else str(found)
    return str(value)


def to_quantity(value: Any) -> Quantity | None:
    if isinstance(value, bool):
        return Quantity(Decimal(value))
    if isinstance(value, str):
        return _parsed(Quantity.parse, value)
    return as_quantity(value)


def to_date(value: Any) -> Date | None:
    if isinstance(value, DateTime):
        return Date(value.parts[:3])
    if isinstance(value, str):
        moment = _parsed(DateTime.parse, value)
        return None if moment is None else Date(moment.parts[:3])
    return value if isinstance(value, Date) else None


def to_date_time(value: Any) -> DateTime | None:
    if isinstance(value, Date):
        return DateTime(value.parts)
    if isinstance(value, str):
        return _parsed(DateTime.parse, value)
    return value if isinstance(value, DateTime) else None


def to_time(value: Any) -> Time | None:
    if isinstance(value, str):
        return _parsed(Time.parse, value.removeprefix("T"))
    return value if isinstance(value, Time) else None


def _parsed(parse: Callable[[str], _T], text: str) -> _T | None:
    try:
        return parse(text)
    except ValueError:
        return None


# type -> (conversion, an example that converts, the result)
_CONVERSIONS: dict[str, tuple[Callable[[Any], Any], str, Any]] = {
    "Boolean": (to_boolean, "'yes'", True),
    "Integer": (to_integer, "'12'", 12),
    "Decimal": (to_decimal, "'1.50'", Decimal("1.50")),
    "String": (to_string, "1.0", "1.0"),
    "Quantity": (to_quantity, "'4 days'", Quantity(Decimal(4), "day")),
    "Date": (to_date, "'2015-02'", Date((2015, 2))),
    "DateTime": (to_date_time, "'2015-02'", DateTime((2015, 2))),
    "Time": (to_time, "'14:30'", Time((14, 30))),
}


def _asked(convert: Callable[[Any], Any]) -> Callable[[Any], bool]:
    return lambda value: convert(value) is not None


def _rows(
    name: str, convert: Callable[[Any], Any], given: str, result: Any
) -> tuple[Function, ...]:
    return (
        scalar(
            f"to{name}",
            convert,
            Kind.ANY,
            doc=f"The {name} of it, if any",
            example=(f"{given}.to{name}()", result),
        ),
        scalar(
            f"convertsTo{name}",
            _asked(convert),
            Kind.ANY,
            doc=f"Is there a {name} of it?",
            example=(f"{given}.convertsTo{name}()", True),
        ),
    )


FUNCTIONS = tuple(row for name, spec in _CONVERSIONS.items() for row in _rows(name, *spec))
