"""Precision and boundaries: https://hl7.org/fhirpath/#lowboundaryprecision-integer-decimal--date--datetime--time
(2.1; the suites for R4 and SQL on FHIR use them already).
"""

from __future__ import annotations

import calendar
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.equality import unit_factor
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Kind, function, scalar, value_of
from fhir_server.fhirpath.node import Collection, Node, as_quantity
from fhir_server.fhirpath.values import Date, DateTime, Quantity, Time

MAX_PLACES = 31
DEFAULT_PLACES = 8
# digits of precision -> known parts (17 and 9: with milliseconds)
_DAY_PARTS = {4: 1, 6: 2, 8: 3, 10: 4, 12: 5, 14: 6, 17: 6}
_CLOCK_PARTS = {2: 1, 4: 2, 6: 3, 9: 3}
_MOST_EAST, _MOST_WEST = 14 * 60, -12 * 60
_SECONDS = {False: Decimal("0.000"), True: Decimal("59.999")}


def low_boundary(value: Any, precision: int | None = None) -> Any:
    return _boundary(value, precision, high=False)


def high_boundary(value: Any, precision: int | None = None) -> Any:
    return _boundary(value, precision, high=True)


def _boundary(value: Any, precision: int | None, *, high: bool) -> Any:
    if isinstance(value, Date):
        parts = _day(value.parts, 8 if precision is None else precision, high)
        return None if parts is None or len(parts) > 3 else Date(parts)
    if isinstance(value, DateTime):
        return _moment(value, 17 if precision is None else precision, high)
    if isinstance(value, Time):
        wanted = 9 if precision is None else precision
        clock = _clock(value.parts, _CLOCK_PARTS.get(wanted, 0), high)
        return Time(_seconds(clock, wanted == 9)) if clock else None
    places = DEFAULT_PLACES if precision is None else precision
    if not 0 <= places <= MAX_PLACES:
        return None
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _decimal(Decimal(value), places, high)
    quantity = as_quantity(value)
    if quantity is None:
        raise FhirPathError("A boundary is of a number, Quantity, date or time")
    return Quantity(_decimal(quantity.value, places, high), quantity.unit)


def _decimal(value: Decimal, places: int, high: bool) -> Decimal:
    """Half a unit of the last digit up or down; towards zero cut, away from it rounded."""
    half = Decimal(5).scaleb(-_places(value) - 1)
    edge = value + half if high else value - half
    away = high is (edge > 0)
    return edge.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP if away else ROUND_DOWN)


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _day(
    parts: tuple[int | Decimal, ...], precision: int, high: bool
) -> tuple[int | Decimal, ...] | None:
    wanted = _DAY_PARTS.get(precision)
    if wanted is None:
        return None
    known = list(parts)
    if len(known) == 1:
        known.append(12 if high else 1)
    if len(known) == 2:
        last = calendar.monthrange(int(known[0]), int(known[1]))[1]
        known.append(last if high else 1)
    return (*known[:3], *_clock(tuple(known[3:]), wanted - 3, high))[:wanted]


def _clock(parts: tuple[int | Decimal, ...], wanted: int, high: bool) -> tuple[int | Decimal, ...]:
    fill: tuple[int | Decimal, ...] = (23, 59, _SECONDS[True]) if high else (0, 0, _SECONDS[False])
    return (*parts, *fill[len(parts) :])[: max(wanted, 0)]


def _seconds(parts: tuple[int | Decimal, ...], milliseconds: bool) -> tuple[int | Decimal, ...]:
    if len(parts) not in (3, 6):
        return parts
    unit = _SECONDS[False] if milliseconds else Decimal(1)
    return (*parts[:-1], Decimal(parts[-1]).quantize(unit, ROUND_DOWN))


def _moment(value: DateTime, precision: int, high: bool) -> DateTime | None:
    parts = _day(value.parts, precision, high)
    if parts is None:
        return None
    if len(parts) == 6:
        parts = _seconds(parts, precision == 17)
    offset = value.offset
    if offset is None and len(parts) > 3:
        offset = _MOST_WEST if high else _MOST_EAST
    return DateTime(parts, offset if len(parts) > 3 else None)


def precision(value: Any) -> int | None:
    """Decimal places, or the digits of a date or time (2014-01 has 6)."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _places(Decimal(value))
    if isinstance(value, Date | DateTime | Time):
        return _digits(value)
    raise FhirPathError("precision() is of a number, date or time")


def _digits(value: Date | DateTime | Time) -> int:
    table = _CLOCK_PARTS if isinstance(value, Time) else _DAY_PARTS
    last = value.parts[-1]
    digits = min(digits for digits, parts in table.items() if parts == len(value.parts))
    return digits + (3 if isinstance(last, Decimal) and _places(last) else 0)


def comparable(run: Run, items: Collection, other: Collection) -> Collection:
    quantities = [_quantity(value_of("comparable", Kind.ANY, c)) for c in (items, other)]
    if quantities[0] is None or quantities[1] is None:
        return []
    return [unit_factor(run, quantities[0], quantities[1]) is not None]


def _quantity(value: Any) -> Quantity | None:
    return as_quantity(value) if isinstance(value, Quantity | Node) else None


FUNCTIONS = (
    scalar(
        "lowBoundary",
        low_boundary,
        Kind.ANY,
        Kind.INTEGER,
        optional=1,
        doc="The least that the value can be, given its precision",
        example=("1.5.lowBoundary(2)", Decimal("1.45")),
    ),
    scalar(
        "highBoundary",
        high_boundary,
        Kind.ANY,
        Kind.INTEGER,
        optional=1,
        doc="The most that the value can be, given its precision",
        example=("@2014.highBoundary(6)", Date((2014, 12))),
    ),
    scalar(
        "precision",
        precision,
        Kind.ANY,
        doc="Decimal places, or digits of a date",
        example=("@2014-01.precision()", 6),
    ),
    function(
        "comparable",
        comparable,
        Kind.COLLECTION,
        doc="Do the two quantities measure the same?",
        example=("1 'cm'.comparable(1 's')", False),
    ),
)
