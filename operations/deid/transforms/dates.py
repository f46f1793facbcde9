"""Dates to the year.

45 CFR 164.514(b)(2)(i)(C): all elements of dates except the year, and all dates, including
the year, that show an age over 89.
"""

from __future__ import annotations

from typing import Any

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, MASKED, Run
from operations.deid.transforms.base import Given, Leaf, Node, Site, dropped

_CUT = {"date", "dateTime"}


class DateGeneralise:
    """``to``: ``year``. Years so long ago that they show an age over ``oldest`` are masked.

    Only date and dateTime may be a year alone; instants and times go.
    """

    drops = False

    def __init__(self, given: Given) -> None:
        if given.get("to", "year") != "year":
            raise ValueError("to is year")
        self._oldest = given.number("oldest", 89)

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _CUT:
            return dropped
        oldest = self._oldest

        def cut(value: Any, _around: Json, run: Run) -> Any:
            year = value[:4]
            if not (len(year) == 4 and year.isascii() and year.isdigit()):
                return DROP
            return year if run.year - int(year) <= oldest else MASKED

        return cut

    def node(self, site: Site) -> Node | None:
        return None
