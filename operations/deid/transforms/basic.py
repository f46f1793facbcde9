"""keep, redact, substitute."""

from __future__ import annotations

import copy
from typing import Any

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import Given, Leaf, Node, Site, dropped, unchanged


class Keep:
    """The value stays. ``bound``: only codes of the element's required value set; ``values``,
    ``pattern``: only these strings; otherwise it goes."""

    drops = False

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

    def node(self, site: Site) -> Node | None:
        return None


def _among(values: frozenset[str]) -> Leaf:
    def keep(value: Any, _around: Json, _run: Run) -> Any:
        return value if value in values else DROP

    return keep


class Redact:
    """The value goes."""

    drops = True

    def __init__(self, given: Given) -> None:
        pass

    def leaf(self, site: Site) -> Leaf:
        return dropped

    def node(self, site: Site) -> Node | None:
        return None


class Substitute:
    """``replaceWith``: a fixed value (an object for complex elements)."""

    drops = False

    def __init__(self, given: Given) -> None:
        if "replaceWith" not in given:
            raise ValueError("replaceWith is missing")
        self._value = given["replaceWith"]

    def leaf(self, site: Site) -> Leaf:
        value = self._value
        return dropped if isinstance(value, dict | list) else lambda _v, _around, _run: value

    def node(self, site: Site) -> Node | None:
        value = self._value
        if not isinstance(value, dict):
            return lambda _v, _run: {}
        return lambda _v, _run: copy.deepcopy(value)
