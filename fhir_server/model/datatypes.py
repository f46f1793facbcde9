"""Partial dates and decimals as ranges, and what the search prefixes mean on them.

Dates and times: https://hl7.org/fhir/R4/datatypes.html#dateTime. A value stands for the
half-open range ``[lo, hi)`` of every moment it may mean, as integers: microseconds since
1970-01-01T00:00:00Z. ``2024`` is a year long, ``2024-01-01T10:00:00.5Z`` a tenth of a second.
A value without a zone is taken in the given zone (default UTC).

Decimals: https://hl7.org/fhir/R4/search.html#number. A search value stands for the range that
its written digits leave open: ``100`` is ``[99.5, 100.5)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from functools import lru_cache
from typing import Final, NamedTuple

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
PAST: Final = -(2**62)
"""The ``lo`` of a range without a beginning."""
FUTURE: Final = 2**62
"""The ``hi`` of a range without an end."""

_EPOCH = date(1970, 1, 1).toordinal()
_DATETIME = re.compile(
    r"(?P<year>[0-9]{4})"
    r"(?:-(?P<month>0[1-9]|1[0-2])"
    r"(?:-(?P<day>0[1-9]|[12][0-9]|3[01])"
    r"(?:T(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])"
    r"(?::(?P<second>[0-5][0-9]|60)(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?P<zone>Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))?"
    r")?)?)?"
)
_TIME = re.compile(
    r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
    r"(?:\.(?P<fraction>[0-9]+))?"
)
_LONGEST_NUMBER = 64
_EXACT = Context(prec=2200)
"""Enough digits for every number of 64 characters with an exponent of three digits."""
_NUMBER = re.compile(r"[+-]?(?P<digits>[0-9]+(?:\.[0-9]+)?)(?P<exponent>[eE][+-]?[0-9]{1,3})?")


class Span(NamedTuple):
    """Half-open range of microseconds; ``PAST`` and ``FUTURE`` are open ends."""

    lo: int
    hi: int


class Interval(NamedTuple):
    """Half-open range of decimals."""

    lo: Decimal
    hi: Decimal


ALWAYS: Final = Span(PAST, FUTURE)


def parse_datetime(text: str, zone: tzinfo = UTC) -> Span:
    """The range of a FHIR ``date``, ``dateTime`` or ``instant``.

    As in resources: with hours come minutes, seconds and a zone.
    Raises ValueError when ``text`` is not one (``2024-02-30``, ``2024-1-1``, ``24:00``).
    """
    span, match = _datetime(text, zone)
    if match["hour"] is not None and (match["second"] is None or match["zone"] is None):
        raise ValueError(f"{text!r}: seconds and zone are required with a time")
    return span


def parse_search_date(text: str, zone: tzinfo = UTC) -> Span:
    """The range of a search value: as ``parse_datetime``, seconds and zone may be absent.

    https://hl7.org/fhir/R4/search.html#date. Raises ValueError.
    """
    return _datetime(text, zone)[0]


def _datetime(text: str, zone: tzinfo) -> tuple[Span, re.Match[str]]:
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a date or dateTime")
    year_, month_, day_, hour, minute, second, fraction, offset = match.groups()
    year = int(year_)
    if month_ is None:
        first, after = _midnight(year, 1, 1), _midnight(year, 12, 31) + DAY
        return _local(first, after, zone), match
    month = int(month_)
    if day_ is None:
        first = _midnight(year, month, 1)
        after = _midnight(year, 12, 31) + DAY if month == 12 else _midnight(year, month + 1, 1)
        return _local(first, after, zone), match
    day = _midnight(year, month, int(day_))
    if hour is None:
        return _local(day, day + DAY, zone), match
    start = day + (int(hour) * 60 + int(minute)) * MINUTE
    length = MINUTE
    if second is not None:
        start += int(second) * SECOND
        length = SECOND
        if fraction is not None:
            micros, length = _fraction(fraction)
            start += micros
    if offset is None:
        return _local(start, start + length, zone), match
    if offset != "Z":
        minutes = int(offset[1:3]) * 60 + int(offset[4:6])
        start += minutes * MINUTE if offset[0] == "-" else -minutes * MINUTE
    return Span(start, start + length), match


def _midnight(year: int, month: int, day: int) -> int:
    """Raises ValueError for a day that is not in the calendar (year 0000 too)."""
    return (date(year, month, day).toordinal() - _EPOCH) * DAY


def _fraction(digits: str) -> tuple[int, int]:
    """Microseconds and the length of the range; finer digits are cut off."""
    kept = digits[:6]
    length: int = 10 ** (6 - len(kept))
    return int(kept) * length, length


def _local(lo: int, hi: int, zone: tzinfo) -> Span:
    if zone is UTC:
        return Span(lo, hi)
    return Span(_to_utc(lo, zone), _to_utc(hi, zone))


def _to_utc(wall: int, zone: tzinfo) -> int:
    """Wall-clock microseconds in ``zone`` as UTC; each end by the offset of its own day."""
    try:
        at = datetime(1970, 1, 1) + timedelta(microseconds=wall)
    except OverflowError:  # the end of the year 9999
        at = datetime.max
    offset = at.replace(tzinfo=zone).utcoffset() or timedelta()
    return wall - offset // timedelta(microseconds=1)


def parse_time(text: str) -> Span:
    """The range of a FHIR ``time`` in microseconds since midnight. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    hour, minute, second, fraction = match.groups()
    start = (int(hour) * 60 + int(minute)) * MINUTE + int(second) * SECOND
    micros, length = _fraction(fraction) if fraction is not None else (0, SECOND)
    return Span(start + micros, start + micros + length)


def parse_instant(text: str) -> int:
    """Microseconds since the epoch of a FHIR ``instant``. Raises ValueError."""
    if "T" not in text:
        raise ValueError(f"{text!r} is not an instant")
    return parse_datetime(text).lo


@lru_cache(maxsize=4096)
def _day_text(day: int) -> str:
    return date.fromordinal(_EPOCH + day).isoformat()


def format_instant(micros: int) -> str:
    """A FHIR ``instant`` in UTC with millisecond digits (finer ones are cut off).

    Raises ValueError outside the years 0001 to 9999.
    """
    return _millisecond_text(micros // 1000)


@lru_cache(maxsize=4096)
def _millisecond_text(millis: int) -> str:
    """Those of one transaction, and of the resources that are served together, repeat."""
    day, rest = divmod(millis, DAY // 1000)
    seconds, fraction = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = _day_text(day)
    return f"{text}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z"


def parse_period(start: str | None, end: str | None, zone: tzinfo = UTC) -> Span:
    """Period (https://hl7.org/fhir/R4/datatypes.html#Period): a missing end is open.

    ``end`` includes every moment it may mean. Raises ValueError.
    """
    lo = parse_datetime(start, zone).lo if start is not None else PAST
    hi = parse_datetime(end, zone).hi if end is not None else FUTURE
    return Span(lo, hi)


def parse_number(text: str) -> Decimal:
    """The exact decimal of a search value. Raises ValueError (also for NaN, ``1_0``, ``.5``)."""
    _number(text)
    return Decimal(text)


def _number(text: str) -> re.Match[str]:
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > _LONGEST_NUMBER:
        raise ValueError(f"{text[:_LONGEST_NUMBER]!r} is not a number")
    return match


def parse_number_range(text: str) -> Interval:
    """The range that the digits of a search value leave open.

    ``100`` is [99.5, 100.5), ``100.00`` is [99.995, 100.005). A single digit with an exponent
    counts as two, since the specification gives [95, 105) for ``1e2``. Raises ValueError.
    """
    match = _number(text)
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if match["exponent"] is not None and len(match["digits"]) == 1:
        exponent -= 1
    half = Decimal((0, (5,), exponent - 1))
    return Interval(_EXACT.subtract(value, half), _EXACT.add(value, half))


# https://hl7.org/fhir/R4/search.html#prefix, on half-open ranges of dates: the search range
# [s_lo, s_hi) and the target range [t_lo, t_hi).
COMPARE_SPANS: Final[dict[str, Callable[[int, int, int, int], bool]]] = {
    # the search range fully contains the target range
    "eq": lambda s_lo, s_hi, t_lo, t_hi: s_lo <= t_lo and t_hi <= s_hi,
    "ne": lambda s_lo, s_hi, t_lo, t_hi: not (s_lo <= t_lo and t_hi <= s_hi),
    # the range above (below) the search value intersects the target range
    "gt": lambda s_lo, s_hi, t_lo, t_hi: t_hi > s_hi,
    "lt": lambda s_lo, s_hi, t_lo, t_hi: t_lo < s_lo,
    # the same, or eq
    "ge": lambda s_lo, s_hi, t_lo, t_hi: t_hi > s_hi or (s_lo <= t_lo and t_hi <= s_hi),
    "le": lambda s_lo, s_hi, t_lo, t_hi: t_lo < s_lo or (s_lo <= t_lo and t_hi <= s_hi),
    # the target range starts after (ends before) the search range
    "sa": lambda s_lo, s_hi, t_lo, t_hi: t_lo >= s_hi,
    "eb": lambda s_lo, s_hi, t_lo, t_hi: t_hi <= s_lo,
    # the search range, widened beforehand, overlaps the target range
    "ap": lambda s_lo, s_hi, t_lo, t_hi: t_lo < s_hi and s_lo < t_hi,
}

# The same on numbers: the search value v with its precision [s_lo, s_hi), which only eq, ne and
# ap look at, and a closed target range [t_lo, t_hi], mostly a point.
COMPARE_NUMBERS: Final[dict[str, Callable[[float, float, float, float, float], bool]]] = {
    "eq": lambda v, s_lo, s_hi, t_lo, t_hi: s_lo <= t_lo and t_hi < s_hi,
    "ne": lambda v, s_lo, s_hi, t_lo, t_hi: not (s_lo <= t_lo and t_hi < s_hi),
    "gt": lambda v, s_lo, s_hi, t_lo, t_hi: t_hi > v,
    "lt": lambda v, s_lo, s_hi, t_lo, t_hi: t_lo < v,
    "ge": lambda v, s_lo, s_hi, t_lo, t_hi: t_hi >= v,
    "le": lambda v, s_lo, s_hi, t_lo, t_hi: t_lo <= v,
    "sa": lambda v, s_lo, s_hi, t_lo, t_hi: t_lo > v,
    "eb": lambda v, s_lo, s_hi, t_lo, t_hi: t_hi < v,
    "ap": lambda v, s_lo, s_hi, t_lo, t_hi: s_lo <= t_hi and t_lo < s_hi,
}
PREFIXES: Final = tuple(COMPARE_SPANS)


def split_prefix(text: str) -> tuple[str, str]:
    """``ge2024`` -> ``("ge", "2024")``; no prefix is ``eq``. Raises ValueError for another."""
    if not text[:1].isalpha():
        return "eq", text
    prefix = text[:2]
    if prefix not in PREFIXES:
        raise ValueError(f"{text!r} has no known prefix ({', '.join(PREFIXES)})")
    return prefix, text[2:]


def approximate_span(span: Span, now: int) -> Span:
    """``ap`` on dates: 10 % of the distance to ``now`` on both sides."""
    if span.lo <= now < span.hi:
        return span
    slack = min(abs(now - span.lo), abs(now - span.hi)) // 10
    return Span(span.lo - slack, span.hi + slack)


def approximate_number(text: str) -> Interval:
    """``ap`` on numbers: 10 % of the value on both sides, at least what its digits leave open."""
    lo, hi = parse_number_range(text)
    value = Decimal(text)
    slack = _EXACT.divide(abs(value), 10)
    return Interval(min(lo, _EXACT.subtract(value, slack)), max(hi, _EXACT.add(value, slack)))
