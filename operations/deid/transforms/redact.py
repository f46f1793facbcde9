"""redact, with the partial redactions of Microsoft's tool: years, ages up to 89, ZIP codes.

https://github.com/microsoft/Tools-for-Health-Data-Anonymization/blob/master/docs/FHIR-anonymization.md
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import Given, Leaf, Method, Node, Site, dropped
from operations.deid.transforms.coded import older
from operations.deid.transforms.dates import OLDEST, year_alone


class Redact(Method):
    """The value goes. ``enablePartialDatesForRedact``: of dates the year stays, unless it shows an
    age over 89; ``enablePartialAgesForRedact``: an Age up to 89 stays;
    ``enablePartialZipCodesForRedact``: of a postal code three digits, the others 0; none of those
    in ``restrictedZipCodeTabulationAreas``."""

    def __init__(self, given: Given) -> None:
        self._dates = given.flag("enablePartialDatesForRedact")
        self._ages = given.flag("enablePartialAgesForRedact")
        self._zips = given.flag("enablePartialZipCodesForRedact")
        self._restricted = given.strings("restrictedZipCodeTabulationAreas")
        self.drops = not (self._dates or self._ages or self._zips)

    def leaf(self, site: Site) -> Leaf:
        if self._dates and site.type in ("date", "dateTime"):
            return lambda value, _around, run: year_alone(value, run, OLDEST)
        if self._zips and site.key == "postalCode":
            return self._zip
        return dropped

    def node(self, site: Site) -> Node | None:
        if site.type != "Age":
            return None
        if not self._ages:
            return lambda _walked, _run: {}
        return lambda walked, _run: {} if older(walked, OLDEST, age=True) else walked

    def _zip(self, value: Any, _around: Json, _run: Run) -> Any:
        digits = "".join(c for c in value if c.isdigit() and c.isascii())
        if len(digits) < 5 or not value[:3].isdecimal():
            return DROP
        first = "000" if digits[:3] in self._restricted else digits[:3]
        return first + "".join("0" if c.isalnum() else c for c in value[3:])
