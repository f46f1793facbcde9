"""Units of measure: UCUM 2.2 (https://ucum.org/ucum).

The unit table is ``ucum.json``, compiled from ucum-essence.xml. Everything inside is exact
(fractions); only logarithms and the like are rounded, to 40 digits. Two units are commensurable
when their base units agree; an arbitrary unit such as ``[iU]`` is a base unit of its own, and a
``mol`` is a number (6.02214076 10*23), so that mole and mass never meet.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import (
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    Underflow,
)
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

_CONTEXT = Context(
    prec=40, Emin=-999, Emax=999, traps=[DivisionByZero, InvalidOperation, Overflow, Underflow]
)
_LONGEST = 256
_MOST_EXPONENT = 99
_MOST_NESTING = 16


class UcumError(ValueError):
    """A unit that is not UCUM, or a calculation that units do not permit."""


class Scale(NamedTuple):
    """A special unit's scale: from its own value to the proper one, and back."""

    proper: Callable[[Fraction], Fraction]
    special: Callable[[Fraction], Fraction]


def _by_decimal(function: Callable[[Decimal], Decimal]) -> Callable[[Fraction], Fraction]:
    def apply(x: Fraction) -> Fraction:
        try:
            return Fraction(function(_decimal(x)))
        except (DecimalException, OverflowError, ValueError):
            raise UcumError("the value is outside the unit's scale") from None

    return apply


def _offset(offset: str) -> Scale:
    by = Fraction(offset)
    return Scale(lambda x: x + by, lambda x: x - by)


def _log(base: int, times: int = 1) -> Scale:
    """``special = times * log_base(proper)``; base 0 is e."""
    of_base = _CONTEXT.ln(Decimal(base)) if base else Decimal(1)
    return Scale(
        _by_decimal(lambda x: _CONTEXT.exp(_CONTEXT.divide(_CONTEXT.multiply(x, of_base), times))),
        _by_decimal(lambda x: _CONTEXT.multiply(_CONTEXT.divide(_CONTEXT.ln(x), of_base), times)),
    )


_TANGENT = Scale(
    _by_decimal(lambda x: Decimal(math.atan(float(x) / 100))),
    _by_decimal(lambda x: Decimal(math.tan(float(x)) * 100)),
)


def _refuse(_value: Fraction) -> Fraction:
    raise UcumError("a unit on a non-ratio scale cannot be part of a product")


_MEANINGLESS = Scale(_refuse, _refuse)

# https://ucum.org/ucum#section-Special-Units-on-non-ratio-Scales
SCALES: Final[dict[str, Scale]] = {
    "Cel": _offset("273.15"),
    "degF": _offset("459.67"),
    "degRe": _offset("218.52"),
    "pH": _log(10, -1),
    "hpX": _log(10, -1),
    "hpC": _log(100, -1),
    "hpM": _log(1000, -1),
    "hpQ": _log(50_000, -1),
    "ln": _log(0),
    "lg": _log(10),
    "ld": _log(2),
    "lgTimes2": _log(10, 2),
    "tanTimes100": _TANGENT,
    "100tan": _TANGENT,
    "sqrt": Scale(lambda x: x * x, _by_decimal(_CONTEXT.sqrt)),
}

# The function element of this unit says degree, its value element and the specification radian.
_ERRATA: Final[dict[str, str]] = {"%[slope]": "rad"}

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A parsed unit: ``proper = scale.proper(value * own) * factor`` in the base units ``dims``."""

    factor: Fraction
    dims: Dimension = ()
    scale: Scale | None = None
    own: Fraction = Fraction(1)

    @property
    def text(self) -> str:
        """The canonical unit: base units in alphabetical order, ``1`` for a number."""
        return ".".join(f"{code}{'' if n == 1 else n}" for code, n in self.dims) or "1"

    def proper(self, value: Decimal) -> Fraction:
        exact = _fraction(value)
        if self.scale is None:
            return exact * self.factor
        return self.scale.proper(exact * self.own) * self.factor

    def improper(self, value: Fraction) -> Fraction:
        if self.scale is None:
            return value / self.factor
        return self.scale.special(value / self.factor) / self.own

    def times(self, other: Unit, power: int = 1) -> Unit:
        """Product with ``other ** power``.

        A special unit can be multiplied by a number; its products with other units are well
        formed, but mean nothing: no value can be converted.
        """
        scale = None
        for special, by in ((self, other), (other, self)):
            if special.scale is not None:
                if not by.dims and by.scale is None and (special is self or power == 1):
                    own = special.own * by.factor ** (power if by is other else 1)
                    return Unit(special.factor, special.dims, special.scale, own)
                scale = _MEANINGLESS
        dims = dict(self.dims)
        for code, n in other.dims:
            dims[code] = dims.get(code, 0) + n * power
        kept = tuple(sorted((code, n) for code, n in dims.items() if n))
        return Unit(self.factor * other.factor**power, kept, scale)


ONE: Final = Unit(Fraction(1))

_TABLE = json.loads((Path(__file__).parent / "ucum.json").read_text("ascii"))
_PREFIXES: Final[dict[str, list[str]]] = _TABLE["prefixes"]
_BASES: Final[dict[str, str]] = _TABLE["bases"]
_UNITS: Final[dict[str, list[str]]] = _TABLE["units"]
VERSION: Final[str] = _TABLE["version"]

_SYMBOL = re.compile(r"(?:\[[!-Z\\^-~]*\]|[!-'*+,\-0-Z\\^-z|~])+")
_ANNOTATION = re.compile(r"\{[!-z|~]*\}")
_EXPONENT = re.compile(r"(.*[^0-9+\-])([+-]?[0-9]+)")


class _Symbol(NamedTuple):
    prefix: str
    atom: str
    exponent: int


def _symbol(token: str) -> _Symbol:
    """``mm2`` -> (m, m, 2). Raises UcumError for an unknown unit."""
    head, exponent = token, 1
    if token not in _UNITS and (match := _EXPONENT.fullmatch(token)):
        head, exponent = match[1], int(match[2])
        if abs(exponent) > _MOST_EXPONENT:
            raise UcumError(f"exponent of {token!r} is out of range")
    if head in _UNITS or head in _BASES:
        return _Symbol("", head, exponent)
    for cut in (2, 1):
        prefix, atom = head[:cut], head[cut:]
        if prefix in _PREFIXES and (atom in _BASES or (atom in _UNITS and "m" in _UNITS[atom][1])):
            return _Symbol(prefix, atom, exponent)
    raise UcumError(f"{token!r} is not a UCUM unit")


@cache
def _atom(code: str) -> Unit:
    if code in _BASES:
        return Unit(Fraction(1), ((code, 1),))
    _, flags, value, unit, *function = _UNITS[code]
    if "a" in flags and unit == "1":
        return Unit(Fraction(1), ((code, 1),))
    of = _unit(_ERRATA.get(code, unit)).times(Unit(Fraction(value)))
    return Unit(of.factor, of.dims, SCALES[function[0]]) if function else of


def _symbol_unit(symbol: _Symbol) -> Unit:
    unit = _atom(symbol.atom)
    if symbol.prefix:
        unit = unit.times(Unit(Fraction(_PREFIXES[symbol.prefix][1])))
    return unit if symbol.exponent == 1 else ONE.times(unit, symbol.exponent)


def _symbol_display(symbol: _Symbol) -> str:
    name = _BASES.get(symbol.atom) or _UNITS[symbol.atom][0]
    prefix = _PREFIXES[symbol.prefix][0] if symbol.prefix else ""
    power = f" ^ {symbol.exponent}" if symbol.exponent != 1 else ""
    return f"({prefix}{name}{power})"


class _Parser:
    """Recursive descent over the grammar of https://ucum.org/ucum#section-Grammar-of-Units.

    A term is kept as its unit and its display text side by side.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def main_term(self) -> tuple[Unit, str]:
        if len(self.text) > _LONGEST:
            raise UcumError(f"a unit has at most {_LONGEST} characters")
        result = self.term()
        if self.at != len(self.text):
            raise self.error()
        return result

    def error(self) -> UcumError:
        return UcumError(f"{self.text!r} is not a UCUM unit (at character {self.at + 1})")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def term(self) -> tuple[Unit, str]:
        unit, display = ONE, ""
        operator = self.peek()
        if operator == "/":
            self.at += 1
            display = " / "
        while True:
            factor, name = self.component()
            unit = unit.times(factor, -1 if operator == "/" else 1)
            display += name
            operator = self.peek()
            if operator not in ("/", ".") or not operator:
                return unit, display
            self.at += 1
            display += " / " if operator == "/" else " * "

    def component(self) -> tuple[Unit, str]:
        if self.peek() == "(":
            unit, display = self.parenthesis()
        elif self.peek() == "{":
            unit, display = ONE, "1"
        elif match := _SYMBOL.match(self.text, self.at):
            self.at = match.end()
            unit, display = self.simple(match[0])
        else:
            raise self.error()
        if self.peek() == "{":
            note = _ANNOTATION.match(self.text, self.at)
            if note is None:
                raise self.error()
            self.at = note.end()
        return unit, display

    def parenthesis(self) -> tuple[Unit, str]:
        self.depth += 1
        if self.depth > _MOST_NESTING:
            raise UcumError(f"{self.text!r} is nested too deeply")
        self.at += 1
        unit, display = self.term()
        if self.peek() != ")":
            raise self.error()
        self.at += 1
        self.depth -= 1
        return unit, f"({display})"

    def simple(self, token: str) -> tuple[Unit, str]:
        if token.isdigit():
            if not int(token):
                raise UcumError("0 is not a unit")
            return Unit(Fraction(int(token))), str(int(token))
        symbol = _symbol(token)
        return _symbol_unit(symbol), _symbol_display(symbol)


def _unit(text: str) -> Unit:
    return _Parser(text).main_term()[0]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Unit | str:
    try:
        return _unit(text)
    except UcumError as error:
        return str(error)


def parse(text: str) -> Unit:
    """The unit that ``text`` says; cached. Raises UcumError."""
    unit = _parsed(text)
    if isinstance(unit, str):
        raise UcumError(unit)
    return unit


def is_valid(text: str) -> bool:
    """Whether ``text`` is a UCUM unit (case-sensitive codes)."""
    return not isinstance(_parsed(text), str)


def display(text: str) -> str:
    """A readable structure: ``m/s2`` -> ``(meter) / (second ^ 2)``. Raises UcumError."""
    return _Parser(text).main_term()[1] if text else "(unity)"


def commensurable(a: str, b: str) -> bool:
    """Whether values of the two units can be compared. Raises UcumError for a bad unit."""
    return parse(a).dims == parse(b).dims


def canonical(value: Decimal, unit: str) -> tuple[Decimal, str]:
    """The value in base units and their text: 1 mg/dL -> (Decimal(10), 'g.m-3').

    Raises UcumError.
    """
    multiplier, text = _linear(unit)
    if multiplier is None:
        return _decimal(parse(unit).proper(value)), text
    try:
        result = _CONTEXT.multiply(value, multiplier)
    except DecimalException:
        raise UcumError("the value is out of range") from None
    if not result.is_finite():
        raise UcumError("the value is not a number")
    return result, text


@lru_cache(maxsize=4096)
def _linear(text: str) -> tuple[Decimal | None, str]:
    """The exact factor to base units, if there is one, and their text. Raises UcumError."""
    unit = parse(text)
    factor = _decimal(unit.factor)
    exact = unit.scale is None and Fraction(factor) == unit.factor
    return factor if exact else None, unit.text


def convert(value: Decimal, source: str, target: str) -> Decimal:
    """The value in another unit. Raises UcumError when the two do not measure the same."""
    of, to = parse(source), parse(target)
    if of.dims != to.dims:
        raise UcumError(
            f"cannot convert {source!r} ({of.text}) to {target!r} ({to.text}): "
            "they do not measure the same"
        )
    if source == target:
        return value
    return _decimal(to.improper(of.proper(value)))


def multiply(v1: Decimal, u1: str, v2: Decimal, u2: str) -> tuple[Decimal, str]:
    """Product of two quantities in base units. Raises UcumError."""
    unit = parse(u1).times(parse(u2))
    return _decimal(unit.proper(Decimal(1)) * _fraction(v1) * _fraction(v2)), unit.text


def divide(v1: Decimal, u1: str, v2: Decimal, u2: str) -> tuple[Decimal, str]:
    """Quotient of two quantities in base units. Raises UcumError (also for division by zero)."""
    if not v2:
        raise UcumError("division by zero")
    unit = parse(u1).times(parse(u2), -1)
    return _decimal(unit.proper(Decimal(1)) * _fraction(v1) / _fraction(v2)), unit.text


def _fraction(value: Decimal) -> Fraction:
    """Raises UcumError for a number so large or small that fractions would explode."""
    try:
        return Fraction(_CONTEXT.plus(value))
    except (DecimalException, ValueError, OverflowError):
        raise UcumError("the value is out of range") from None


def _decimal(value: Fraction) -> Decimal:
    """Exact where it can be, else 40 digits. Raises UcumError outside 1e-999 to 1e999."""
    try:
        return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))
    except DecimalException:
        raise UcumError("the value is out of range") from None
