"""number: https://hl7.org/fhir/R4/search.html#number"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any as Value
from typing import NamedTuple, cast

from fhir_server.model.datatypes import (
    PREFIXES,
    Interval,
    approximate_number,
    parse_number,
    parse_number_range,
    split_prefix,
)
from fhir_server.search.parameters.escape import unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.plan import Any, NumberIs, Predicate, Prefix
from fhir_server.search.values import IndexValues, NumberValue


def _float(number: Value) -> float:
    """Infinity beyond the range of float64, where an int would raise."""
    return float(Decimal(number))


def _point(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        number = _float(value)
        out.numbers.append(NumberValue(index, number, number))

    return emit


def _range(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        lo = value.get("low", {}).get("value", -math.inf)
        hi = value.get("high", {}).get("value", math.inf)
        out.numbers.append(NumberValue(index, _float(lo), _float(hi)))

    return emit


class Sought(NamedTuple):
    """A search value: its number and the range that its precision leaves open, exact."""

    prefix: Prefix
    value: Value
    range: Interval

    def floats(self) -> tuple[float, float, float]:
        """Value, lo and hi; the end of an ``ap`` range belongs to it.

        The value itself is within: a range of 17 digits is less than one float64 wide.
        """
        value, lo, hi = float(self.value), float(self.range.lo), float(self.range.hi)
        beyond = hi if self.prefix == "ap" else value
        return value, lo, max(hi, math.nextafter(beyond, math.inf))


def sought(text: str) -> Sought:
    """Raises ValueError."""
    prefix, number = split_prefix(text)
    span = approximate_number(number) if prefix == "ap" else parse_number_range(number)
    return Sought(cast(Prefix, prefix), parse_number(number), span)


def compile_number(criterion: Criterion) -> Predicate:
    parts = []
    for value in criterion.values:
        try:
            wanted = sought(unescape(value))
        except ValueError as error:
            raise criterion.bad(value, f"is not a number: {error}") from None
        parts.append(NumberIs(criterion.index, wanted.prefix, *wanted.floats()))
    return parts[0] if len(parts) == 1 else Any(tuple(parts))


NUMBER = Kind(
    name="number",
    description="A number; its written digits say how precisely: 100 is 99.5 to 100.5",
    example="RiskAssessment?probability=gt0.8",
    prefixes=PREFIXES,
    compile=compile_number,
    readers={
        "decimal": _point,
        "integer": _point,
        "positiveInt": _point,
        "unsignedInt": _point,
        "Range": _range,
    },
)
