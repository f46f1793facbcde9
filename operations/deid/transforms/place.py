"""Postal codes: 45 CFR 164.514(b)(2)(i)(B)."""

from __future__ import annotations

from typing import Any

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import Given, Leaf, Method, Site, dropped, text

_UNITED_STATES = frozenset(
    ("US", "USA", "840", "UNITED STATES", "UNITED STATES OF AMERICA", "U.S.", "U.S.A.")
)


class Zip3(Method):
    """The first three digits of a United States ZIP code, ``000`` where they hold 20,000 people
    or fewer (``restrictedZipCodeTabulationAreas``). The population rule knows no other country,
    so other postal codes go, as do those of an address without a country."""

    def __init__(self, given: Given) -> None:
        self._restricted = given.strings("restrictedZipCodeTabulationAreas")
        if not self._restricted:
            raise ValueError("restrictedZipCodeTabulationAreas is empty")

    def leaf(self, site: Site) -> Leaf:
        if site.key != "postalCode":
            return dropped
        restricted = self._restricted

        def cut(value: Any, around: Json, _run: Run) -> Any:
            first = value[:3]
            country = text(around.get("country")).strip().upper()
            if country not in _UNITED_STATES or not (len(first) == 3 and first.isdecimal()):
                return DROP
            return "000" if first in restricted else first

        return cut
