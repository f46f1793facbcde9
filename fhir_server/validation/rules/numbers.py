"""boolean, integer, positiveInt, unsignedInt, decimal: https://hl7.org/fhir/R4/datatypes.html"""

from __future__ import annotations

from decimal import Decimal

from .fault import Fault, Rule, shown, wrong_type

MAX_INT = 2**31 - 1
MAX_DIGITS = 100
"""Digits of a decimal. The specification asks for 18 and sets no upper limit."""
MAX_EXPONENT = 400
"""Magnitude of a decimal as a power of ten; the official examples reach 245."""


def boolean(value: object) -> Fault | None:
    return None if value is True or value is False else wrong_type(value, "boolean")


def _integer(name: str, low: int) -> Rule:
    def check(value: object) -> Fault | None:
        if type(value) is not int:
            if isinstance(value, Decimal):
                if low < 0 and value == 0 and value.as_tuple().exponent == 0:
                    return None  # -0, which the published pattern allows
                return Fault("value", f"{shown(value)} is no {name}: write it without a point")
            return wrong_type(value, "number")
        if low <= value <= MAX_INT:
            return None
        return Fault("value", f"{shown(value)} is no {name}: {low} to {MAX_INT}")

    return check


integer = _integer("integer", -(2**31))
unsigned_int = _integer("unsignedInt", 0)
positive_int = _integer("positiveInt", 1)


def decimal(value: object) -> Fault | None:
    if type(value) is int:
        if value.bit_length() <= 3 * MAX_DIGITS:
            return None
        return Fault("value", f"has more than {MAX_DIGITS} digits")
    if not isinstance(value, Decimal):
        return wrong_type(value, "number")
    if not value.is_finite():
        return Fault("value", "must be a finite number")
    if len(value.as_tuple().digits) > MAX_DIGITS:
        return Fault("value", f"has more than {MAX_DIGITS} digits")
    if abs(value.adjusted()) > MAX_EXPONENT:
        return Fault("value", f"is beyond 10 to the power of {MAX_EXPONENT}")
    return None
