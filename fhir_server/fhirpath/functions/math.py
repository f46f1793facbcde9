"""Math: http://hl7.org/fhirpath/N1/#math. Decimals are exact or rounded to 28 digits."""

from __future__ import annotations

from collections.abc import Callable
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Decimal,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import Any

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Function, Kind, scalar
from fhir_server.fhirpath.values import Quantity

MAX_PLACES = 28


def _safe(operation: Callable[..., Any]) -> Callable[..., Any]:
    """What has no result (a root of -1, an overflow) is None."""

    def safe(*values: Any) -> Any:
        try:
            with localcontext(prec=28, Emax=999, Emin=-999):
                return operation(*values)
        except (InvalidOperation, Overflow, ZeroDivisionError):
            return None

    return safe


def absolute(value: Any) -> Any:
    return Quantity(abs(value.value), value.unit) if isinstance(value, Quantity) else abs(value)


def ceiling(value: Any) -> int:
    return int(Decimal(value).to_integral_value(ROUND_CEILING))


def floor(value: Any) -> int:
    return int(Decimal(value).to_integral_value(ROUND_FLOOR))


def truncate(value: Any) -> int:
    return int(value)


def exp(value: Any) -> Decimal:
    return Decimal(value).exp()


def ln(value: Any) -> Decimal | None:
    return Decimal(value).ln() if value > 0 else None


def log(value: Any, base: Any) -> Decimal | None:
    if value <= 0 or base <= 0 or base == 1:
        return None
    result = Decimal(value).ln() / Decimal(base).ln()
    nearest = result.to_integral_value()
    return nearest if Decimal(base) ** nearest == value else result


def power(value: Any, exponent: Any) -> Any:
    result = Decimal(value) ** Decimal(exponent)
    if isinstance(value, int) and isinstance(exponent, int) and exponent >= 0:
        return int(result) if abs(result) < 2**31 else None
    return result


def round_(value: Any, places: int = 0) -> Decimal:
    if not 0 <= places <= MAX_PLACES:
        raise FhirPathError(f"round() takes a precision of 0 to {MAX_PLACES}")
    return Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def sqrt(value: Any) -> Decimal:
    return Decimal(value).sqrt()


def _row(
    name: str, operation: Callable[..., Any], doc: str, *example: Any, given: Kind = Kind.NUMBER
) -> Function:
    return scalar(name, _safe(operation), given, doc=doc, example=example)


FUNCTIONS = (
    _row("abs", absolute, "Without its sign", "(-5).abs()", 5, given=Kind.QUANTITY),
    _row("ceiling", ceiling, "The next Integer up", "1.1.ceiling()", 2),
    _row("floor", floor, "The next Integer down", "(-2.1).floor()", -3),
    _row("truncate", truncate, "Without its fraction", "(-1.5).truncate()", -1),
    _row("exp", exp, "e to the power of it", "0.exp()", Decimal(1)),
    _row("ln", ln, "The natural logarithm", "1.ln()", Decimal(0)),
    _row("sqrt", sqrt, "The square root", "81.sqrt()", Decimal(9)),
    scalar(
        "log",
        _safe(log),
        Kind.NUMBER,
        Kind.NUMBER,
        doc="The logarithm to a base",
        example=("16.log(2)", Decimal(4)),
    ),
    scalar(
        "power",
        _safe(power),
        Kind.NUMBER,
        Kind.NUMBER,
        doc="To the power of",
        example=("2.power(3)", 8),
    ),
    scalar(
        "round",
        _safe(round_),
        Kind.NUMBER,
        Kind.INTEGER,
        optional=1,
        doc="To a number of decimal places",
        example=("3.14159.round(3)", Decimal("3.142")),
    ),
)
