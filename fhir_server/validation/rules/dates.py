"""date, dateTime, instant, time: https://hl7.org/fhir/R4/datatypes.html#dateTime

The published regular expressions accept 30 February; a real calendar is used here.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import datetime, timedelta

from .fault import Fault, Rule, shown, wrong_type

_EXAMPLES = {
    "date": "2020, 2020-02 or 2020-02-29",
    "dateTime": "2020, 2020-02, 2020-02-29 or 2020-02-29T23:59:59+01:00",
    "instant": "2020-02-29T23:59:59.000Z",
    "time": "23:59:59",
}


def real_day(value: str) -> bool:
    """Whether the day of ``YYYY-MM-DD...`` exists; True for less precise dates."""
    return value[8:10] <= "28" or int(value[8:10]) <= monthrange(int(value[:4]), int(value[5:7]))[1]


def dated(name: str, pattern: str) -> Rule:
    """The rule of one of the four types, from its published pattern."""
    match: Callable[[str], object] = re.compile(pattern).fullmatch
    has_day = name != "time"

    def check(value: object) -> Fault | None:
        if type(value) is not str:
            return wrong_type(value, "string")
        if match(value) is None:
            return Fault("value", f"{shown(value)} is no {name}: like {_EXAMPLES[name]}")
        if has_day and not real_day(value):
            return Fault("value", f"{shown(value)} is no {name}: that month has no such day")
        return None

    return check


def later(first: str, second: str) -> bool:
    """Whether ``first`` is surely after ``second``: dates or dateTimes of any precision.

    What cannot be told (2020 and 2020-03, or a day in an unknown zone) is not later.
    """
    if "T" in first and "T" in second:
        return _moment(first) > _moment(second)
    if "T" in first or "T" in second:
        return _sure_days_apart(first, second)
    shared = min(len(first), len(second))
    return first[:shared] > second[:shared]


def _moment(value: str) -> tuple[datetime, str]:
    """The moment to the second (second 60 is the next minute) and the digits below it."""
    head, fraction, zone = value[:19], "", value[19:]
    if zone.startswith("."):
        end = next(i for i, c in enumerate(zone) if c in "Z+-")
        fraction, zone = zone[1:end].rstrip("0"), zone[end:]
    if head.endswith("60"):
        return datetime.fromisoformat(f"{head[:-2]}59{zone}"), "~" + fraction
    return datetime.fromisoformat(head + zone), fraction


def _sure_days_apart(first: str, second: str) -> bool:
    """A date against a dateTime: zones differ by at most a day and a bit."""
    if len(first) < 10 or len(second) < 10:
        shared = min(len(first), len(second))
        return first[:shared] > second[:shared]
    return datetime.fromisoformat(first[:10]) - datetime.fromisoformat(second[:10]) > timedelta(1)
