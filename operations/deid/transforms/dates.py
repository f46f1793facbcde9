"""Dates to the year, or moved by a number of days.

45 CFR 164.514(b)(2)(i)(C): all elements of dates except the year, and all dates, including
the year, that show an age over 89.
"""

from __future__ import annotations

import hmac
import re
from datetime import date, timedelta
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, MASKED, Run
from operations.deid.transforms.base import PROJECT, SUBJECT, Given, Leaf, Method, Site, dropped

OLDEST: Final = 89
MOST_DAYS: Final = 50
"""As Microsoft's tool has it: within 50 days to either side."""
_CUT: Final = {"date", "dateTime"}
_MOVED: Final = {"date", "dateTime", "instant"}
_DAY: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(T.*)?", re.DOTALL)
_ZONE: Final = re.compile(r"(?:Z|[+-]\d\d:\d\d)$")
_SCOPES: Final = ("resource", "file", "folder", "patient")


class DateGeneralise(Method):
    """``to``: ``year``. Years so long ago that they show an age over ``oldest`` are masked.

    Only date and dateTime may be a year alone; instants and times go.
    """

    def __init__(self, given: Given) -> None:
        if given.get("to", "year") != "year":
            raise ValueError("to is year")
        self._oldest = given.number("oldest", OLDEST)

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _CUT:
            return dropped
        oldest = self._oldest
        return lambda value, _around, run: year_alone(value, run, oldest)


class DateShift(Method):
    """Dates move by up to ``days`` days, all of one ``dateShiftScope`` alike: ``patient``,
    ``resource``, ``file`` (one answer), ``folder`` (all that the key is used for).

    ``dateShiftKey``: if it is not given, that of the project; a ``patient`` scope needs the
    project's. ``time``: ``redact`` (to midnight, as Microsoft's tool) or ``keep``. A date without
    a day cannot be moved and becomes its year (``partial``: ``year``) or goes; one that shows an
    age over 89 goes.
    """

    def __init__(self, given: Given) -> None:
        self._key = given.secret("dateShiftKey")
        self._scope = given.one_of("dateShiftScope", _SCOPES)
        self._fixed = given.get("dateShiftFixedOffsetInDays")
        if self._fixed is not None and type(self._fixed) is not int:
            raise ValueError("dateShiftFixedOffsetInDays is an integer")
        self._days = given.number("days", MOST_DAYS)
        if not 1 <= self._days <= 3650:
            raise ValueError("days is 1 to 3650")
        self._keep_time = given.one_of("time", ("redact", "keep")) == "keep"
        self._year = given.one_of("partial", ("redact", "year")) == "year" or given.flag(
            "enablePartialDatesForRedact"
        )
        per_patient = self._scope == "patient"
        self.needs = frozenset((PROJECT, SUBJECT)) if per_patient else frozenset((SUBJECT,))

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _MOVED:
            return dropped
        alone = self._year and site.type in _CUT

        def move(value: Any, _around: Json, run: Run) -> Any:
            found = _DAY.fullmatch(value)
            if found is None:
                return year_alone(value, run, OLDEST) if alone else DROP
            if run.year - int(found[1]) > OLDEST:
                return MASKED
            try:
                day = date(int(found[1]), int(found[2]), int(found[3]))
                day += timedelta(self._offset(run))
            except (OverflowError, ValueError):
                return DROP
            return day.isoformat() + self._time(found[4])

        return move

    def _offset(self, run: Run) -> int:
        if self._fixed is not None:
            return int(self._fixed)
        whose = {
            "patient": run.about.subject,
            "resource": run.about.resource,
            "file": "file",
            "folder": "folder",
        }[self._scope]
        return shift_of(self._key or run.secret("shift"), whose, self._days)

    def _time(self, time: str | None) -> str:
        if time is None or self._keep_time:
            return time or ""
        zone = _ZONE.search(time)
        return f"T00:00:00{zone[0]}" if zone else ""


def shift_of(key: bytes, whose: str, most: int = MOST_DAYS) -> int:
    """Days, from ``-most`` to ``most`` and never 0, the same for the same key and owner."""
    number = int.from_bytes(hmac.digest(key, whose.encode(), "sha256")[:8]) % (2 * most)
    return number - most if number < most else number - most + 1


def year_alone(value: str, run: Run, oldest: int) -> Any:
    """The year; masked where it shows an age over ``oldest``."""
    year = value[:4]
    if not (len(year) == 4 and year.isascii() and year.isdigit()):
        return DROP
    return year if run.year - int(year) <= oldest else MASKED
