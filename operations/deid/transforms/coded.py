"""Codes and amounts: what a machine can read stays, what a person typed goes."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from fhir_server.model import ucum
from fhir_server.model.exchange import Json
from operations.deid.run import Run
from operations.deid.transforms.base import (
    Given,
    Leaf,
    Method,
    Node,
    Site,
    dropped,
    text,
    unchanged,
)

UCUM: Final = "http://unitsofmeasure.org"
_KINDS = frozenset(("Quantity", "Age", "Count", "Distance", "Duration"))
_NUMBERS = frozenset(("integer", "decimal", "positiveInt", "unsignedInt"))
_COMPARATORS = frozenset(("<", "<=", ">=", ">"))

YEARS_PER_UNIT: Final = {
    **dict.fromkeys(("a", "a_j", "a_t", "a_g", "y", "yr", "yrs", "year", "years"), Decimal(1)),
    **dict.fromkeys(("yo", "рік", "роки", "років", "год", "года", "лет"), Decimal(1)),
    **dict.fromkeys(("mo", "mo_j", "mo_s", "mo_g", "mos", "month", "months"), Decimal(1) / 12),
    **dict.fromkeys(("wk", "wks", "week", "weeks"), Decimal(7) / 366),
    **dict.fromkeys(("d", "day", "days"), Decimal(1) / 366),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), Decimal(1) / 8784),
}
"""Units in which an age is given -> years, by code or by what people write. Years here are
long ones and units below the year are compared with a year's margin: an age is capped up to
two years early, never late."""


class KeepCoding(Method):
    """Coding: ``system`` and ``code`` stay if both match; display, version and the rest go.

    ``system``, ``code``: regular expressions for the whole value.
    """

    def __init__(self, given: Given) -> None:
        self._system = given.pattern("system") or bool
        self._code = given.pattern("code") or bool

    def leaf(self, site: Site) -> Leaf:
        return dropped

    def node(self, site: Site) -> Node | None:
        return self._coding if site.type == "Coding" else lambda _walked, _run: {}

    def _coding(self, walked: Json, _run: Run) -> Json:
        system, code = text(walked.get("system")), text(walked.get("code"))
        if not (self._system(system) and self._code(code)):
            return {}
        result: Json = {"system": system, "code": code}
        if isinstance(walked.get("userSelected"), bool):
            result["userSelected"] = walked["userSelected"]
        return result


class KeepQuantity(Method):
    """Quantity and its kinds: value, comparator and a coded unit stay; the unit's text is the
    code again, for UCUM. Ages over ``oldest`` years become ``>=`` one year more.

    ``unitSystem``, ``unit``: regular expressions of system and code. ``age``: numbers without
    a unit are years. ``units``: what passes for a UCUM code though it is none.
    """

    def __init__(self, given: Given) -> None:
        self._system = given.pattern("unitSystem") or bool
        self._code = given.pattern("unit") or bool
        self._words = given.strings("units")
        self._oldest = given.number("oldest", 89)
        self._age = given.flag("age")

    def leaf(self, site: Site) -> Leaf:
        if site.type in _NUMBERS:
            if not self._age:
                return unchanged
            oldest = self._oldest
            return lambda value, _around, _run: value if value <= oldest else oldest + 1
        return dropped

    def node(self, site: Site) -> Node | None:
        if site.type not in _KINDS:
            return lambda _walked, _run: {}
        simple = site.key in ("low", "high")

        def quantity(walked: Json, _run: Run) -> Json:
            result = self._measured(walked)
            if "value" in result and older(walked, self._oldest, self._age):
                result["value"] = self._oldest + 1
                if not simple:
                    result["comparator"] = ">="
                result |= {"system": UCUM, "code": "a", "unit": "a"}
            return result

        return quantity

    def _measured(self, walked: Json) -> Json:
        result: Json = {}
        value = walked.get("value")
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            result["value"] = value
        if walked.get("comparator") in _COMPARATORS:
            result["comparator"] = walked["comparator"]
        system, code = text(walked.get("system")), text(walked.get("code"))
        known = system != UCUM or ucum.is_valid(code) or code in self._words
        if known and self._system(system) and self._code(code):
            if system == UCUM:
                result["unit"] = code
            result |= {"system": system, "code": code}
        return result


def older(walked: Json, oldest: int, age: bool) -> bool:
    """Is the amount a time of more than ``oldest`` years? ``age``: a bare number is years."""
    value = walked.get("value")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    written = text(walked.get("unit")).strip().rstrip(".").casefold()
    units = [unit for unit in (text(walked.get("code")), written) if unit]
    if age and not units:
        return bool(value > oldest)
    return any(_beyond(value, YEARS_PER_UNIT.get(unit), oldest) for unit in units)


def _beyond(value: Decimal | int, years: Decimal | None, oldest: int) -> bool:
    if years is None:
        return False
    return value * years > oldest - (0 if years == 1 else 1)
