"""keep, substitute, mask."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import Given, Leaf, Method, Node, Site, dropped, unchanged


class Keep(Method):
    """The value stays. ``bound``: only codes of the element's required value set; ``values``,
    ``pattern``: only these strings; otherwise it goes."""

    def __init__(self, given: Given) -> None:
        self._bound = given.flag("bound")
        self._values = given.strings("values")
        self._pattern = given.pattern("pattern")

    def leaf(self, site: Site) -> Leaf:
        if self._bound:
            return _among(site.values or frozenset())
        if not self._values and self._pattern is None:
            return unchanged
        values, matches = self._values, self._pattern

        def keep(value: Any, _around: Json, _run: Run) -> Any:
            known = isinstance(value, str) and (
                value in values or (matches is not None and matches(value) is not None)
            )
            return value if known else DROP

        return keep


def _among(values: frozenset[str]) -> Leaf:
    def keep(value: Any, _around: Json, _run: Run) -> Any:
        return value if value in values else DROP

    return keep


class Substitute(Method):
    """``replaceWith``: a fixed value (an object for complex elements)."""

    def __init__(self, given: Given) -> None:
        if "replaceWith" not in given:
            raise ValueError("replaceWith is missing")
        self._value = given["replaceWith"]

    def leaf(self, site: Site) -> Leaf:
        value = typed(self._value, site.type)
        return dropped if value is None else lambda _v, _around, _run: value

    def node(self, site: Site) -> Node | None:
        value = self._value
        if not isinstance(value, dict):
            return lambda _v, _run: {}
        return lambda _v, _run: copy.deepcopy(value)


class Mask(Method):
    """``with`` in the place of each letter and digit, but for the first ``keepFirst`` and the last
    ``keepLast`` of them; of a value with no more than these nothing is left bare."""

    def __init__(self, given: Given) -> None:
        self._with = given.get("with", "*")
        if not isinstance(self._with, str) or len(self._with) != 1:
            raise ValueError("with is one character")
        self._first, self._last = given.number("keepFirst", 0), given.number("keepLast", 0)
        if min(self._first, self._last) < 0:
            raise ValueError("keepFirst and keepLast are 0 or more")

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _TEXTS:
            return dropped
        return lambda value, _around, _run: self._masked(value)

    def _masked(self, value: str) -> str:
        places = [n for n, c in enumerate(value) if c.isalnum()]
        if len(places) > self._first + self._last:
            places = places[self._first : len(places) - self._last]
        hidden = set(places)
        return "".join(self._with if n in hidden else c for n, c in enumerate(value))


_TEXTS: Final = frozenset(("string", "markdown"))


def typed(value: Any, type_: str) -> Any:
    """A value of a profile file as JSON of a primitive type; None if it is none."""
    if type_ == "boolean":
        return {"true": True, "false": False}.get(str(value).lower())
    if type_ not in ("integer", "positiveInt", "unsignedInt", "decimal"):
        return value if isinstance(value, str) else None
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return None
    if type_ == "decimal":
        return number
    return int(number) if number == number.to_integral_value() else None
