"""System values: http://hl7.org/fhirpath/N1/#literals.

Boolean, String, Integer and Decimal are ``bool``, ``str``, ``int`` and ``Decimal``; the
others are the small classes below. Dates and times keep the precision they were written
with; a question that the precision cannot answer has the answer None.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import ClassVar, TypeAlias

# http://hl7.org/fhirpath/N1/#time-valued-quantities
CALENDAR_UNITS = {
    name + plural: name
    for name in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in ("", "s")
}
UCUM_DURATIONS = {
    "a": "year", "mo": "month", "wk": "week", "d": "day",
    "h": "hour", "min": "minute", "s": "second", "ms": "millisecond",
}  # fmt: skip
SECONDS = {
    "week": Decimal(604800), "day": Decimal(86400), "hour": Decimal(3600),
    "minute": Decimal(60), "second": Decimal(1), "millisecond": Decimal("0.001"),
}  # fmt: skip
_UNKNOWN_OFFSET = 14 * 60
_LEAST = (1, 1, 1, 0, 0)
_QUANTITY = re.compile(r"([+-]?\d{1,40}(?:\.\d{1,40})?)\s*(?:'([^']+)'|([a-z]+))?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A decimal with a UCUM unit or the singular name of a calendar duration."""

    value: Decimal
    unit: str = "1"

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """``4 days``, ``1.5 'mg'``, ``7``. Raises ValueError."""
        match = _QUANTITY.fullmatch(text.strip())
        if match is None or (match[3] and match[3] not in CALENDAR_UNITS):
            raise ValueError(f"Not a quantity: {text[:50]!r}")
        unit = match[2] or match[3] or "1"
        return cls(Decimal(match[1]), CALENDAR_UNITS.get(unit, unit))

    @property
    def calendar(self) -> bool:
        return self.unit in CALENDAR_UNITS

    def __str__(self) -> str:
        if self.calendar:
            return f"{self.value} {self.unit}{'' if abs(self.value) == 1 else 's'}"
        return f"{self.value} '{self.unit}'"


class _Temporal:
    """What dates, date-times and times share: components from coarse to fine.

    ``parts``: as many as are known; the last of a full value are seconds, a Decimal.
    """

    __slots__ = ()
    kind: ClassVar[str]
    _pattern: ClassVar[re.Pattern[str]]
    parts: tuple[int | Decimal, ...]

    def compare(self, other: Temporal) -> int | None:
        """-1, 0, 1, or None where the precision (or an offset) does not tell."""
        left, right = self.parts, other.parts
        a, b = _offset(self), _offset(other)
        if a != b and len(left) > 3 and len(right) > 3:
            if a is not None and b is not None:
                left, right = _utc(left, a), _utc(right, b)
            else:
                return _apart(left, right)
        elif a != b and left[:3] != right[:3]:
            return _apart(left, right)
        for mine, theirs in zip(left, right, strict=False):
            if mine != theirs:
                return -1 if mine < theirs else 1
        return 0 if len(left) == len(right) else None


@dataclass(frozen=True, slots=True)
class Date(_Temporal):
    """Year, month, day: one to three parts."""

    parts: tuple[int | Decimal, ...]
    kind: ClassVar[str] = "Date"

    @classmethod
    def parse(cls, text: str) -> Date:
        """``2015``, ``2015-02``, ``2015-02-04``. Raises ValueError."""
        match = _DATE.fullmatch(text)
        if match is None:
            raise ValueError(f"Not a date: {text[:50]!r}")
        return cls(_checked_day(tuple(int(p) for p in match.groups() if p is not None)))

    def __str__(self) -> str:
        return _day_text(self.parts)


@dataclass(frozen=True, slots=True)
class DateTime(_Temporal):
    """Year to seconds: one to six parts; ``offset`` in minutes from UTC, or None."""

    parts: tuple[int | Decimal, ...]
    offset: int | None = None
    kind: ClassVar[str] = "DateTime"

    @classmethod
    def parse(cls, text: str) -> DateTime:
        """``2015-02-04T14:34:28.123+10:00`` and every shorter form. Raises ValueError."""
        day, _, clock = text.partition("T")
        parts = Date.parse(day).parts
        if not clock:
            return cls(parts)
        match = _CLOCK.fullmatch(clock)
        if match is None or len(parts) < 3:
            raise ValueError(f"Not a date and time: {text[:50]!r}")
        return cls(parts + _checked_clock(match), _offset_minutes(match[4]))

    @classmethod
    def of(cls, moment: datetime) -> DateTime:
        """An aware ``datetime``, to the millisecond."""
        offset = moment.utcoffset()
        seconds = Decimal(moment.second * 1000 + moment.microsecond // 1000).scaleb(-3)
        parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute, seconds)
        return cls(parts, None if offset is None else int(offset.total_seconds() // 60))

    def __str__(self) -> str:
        text = _day_text(self.parts[:3])
        if len(self.parts) > 3:
            text += "T" + _clock_text(self.parts[3:])
        return text + _offset_text(self.offset)


@dataclass(frozen=True, slots=True)
class Time(_Temporal):
    """Hour, minute, seconds: one to three parts."""

    parts: tuple[int | Decimal, ...]
    kind: ClassVar[str] = "Time"

    @classmethod
    def parse(cls, text: str) -> Time:
        """``14``, ``14:34``, ``14:34:28.123``. Raises ValueError."""
        match = _CLOCK.fullmatch(text)
        if match is None or match[4]:
            raise ValueError(f"Not a time: {text[:50]!r}")
        return cls(_checked_clock(match))

    def __str__(self) -> str:
        return _clock_text(self.parts)


Temporal: TypeAlias = Date | DateTime | Time
System: TypeAlias = bool | int | Decimal | str | Quantity | Date | DateTime | Time

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_CLOCK = re.compile(r"(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d{1,20})?))?)?(Z|[+-]\d\d:\d\d)?")


def type_name(value: System) -> str:
    """The name of a value's type in the System namespace."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    if isinstance(value, Decimal):
        return "Decimal"
    if isinstance(value, str):
        return "String"
    return "Quantity" if isinstance(value, Quantity) else value.kind


def add(moment: Temporal, quantity: Quantity) -> Temporal | None:
    """``moment + quantity``, or None outside the years 1 to 9999.

    Raises ValueError when the unit is no duration, or a UCUM year or month: these are not
    calendar durations (http://hl7.org/fhirpath/N1/#datetime-arithmetic).
    """
    unit = quantity.unit
    if not quantity.calendar:
        unit = UCUM_DURATIONS.get(unit, "")
        if unit in ("", "year", "month"):
            raise ValueError(f"Not a calendar duration: '{quantity.unit}'")
    value = quantity.value if unit in ("second", "millisecond") else Decimal(int(quantity.value))
    try:
        if isinstance(moment, Time):
            return _add_clock(moment, value, unit)
        if unit in ("year", "month"):
            parts = _add_months(moment.parts, int(value) * (12 if unit == "year" else 1))
        else:
            parts = _add_seconds(moment.parts, value * SECONDS[unit])
    except OverflowError:
        return None
    return DateTime(parts, moment.offset) if isinstance(moment, DateTime) else Date(parts)


def _add_months(parts: tuple[int | Decimal, ...], months: int) -> tuple[int | Decimal, ...]:
    if len(parts) == 1:
        return (_year(int(parts[0]) + int(Decimal(months) / 12)),)
    total = int(parts[0]) * 12 + int(parts[1]) - 1 + months
    year, month = _year(total // 12), total % 12 + 1
    if len(parts) == 2:
        return (year, month)
    return (year, month, min(int(parts[2]), calendar.monthrange(year, month)[1]), *parts[3:])


def _add_seconds(parts: tuple[int | Decimal, ...], seconds: Decimal) -> tuple[int | Decimal, ...]:
    days = int(seconds / 86400)
    if abs(days) > 4_000_000:
        raise OverflowError
    if len(parts) == 1:
        return (_year(int(parts[0]) + int(Decimal(days) / 365)),)
    if len(parts) == 2:
        return _add_months(parts, int(Decimal(days) / 30))
    step = (86400, 3600, 60)[len(parts) - 3] if len(parts) < 6 else 0
    if step:
        seconds = Decimal(int(seconds / step) * step)
    fraction = Decimal(0) if step else Decimal(parts[5]) % 1
    clock = [*(int(p) for p in parts), 0, 0, 0][:6]
    whole, rest = divmod(fraction + seconds % 1, 1)
    base = datetime(*clock)  # type: ignore[arg-type]
    moved = base + timedelta(seconds=int(seconds // 1) + int(whole))
    result = (moved.year, moved.month, moved.day, moved.hour, moved.minute, moved.second + rest)
    return result[: len(parts)]


def _add_clock(moment: Time, value: Decimal, unit: str) -> Time:
    if unit not in SECONDS or unit in ("week", "day"):
        raise ValueError(f"Not a duration of a time of day: {unit}")
    day = _add_seconds((2000, 1, 1, *moment.parts), value * SECONDS[unit])
    return Time(day[3:])


def _year(year: int) -> int:
    if not 1 <= year <= 9999:
        raise OverflowError
    return year


def _checked_day(parts: tuple[int, ...]) -> tuple[int, ...]:
    year, month, day = (*parts, 1, 1)[:3]
    datetime(year, month, day)  # raises ValueError for Feb 30
    return parts


def _checked_clock(match: re.Match[str]) -> tuple[int | Decimal, ...]:
    parts: list[int | Decimal] = [int(match[1])]
    if match[2]:
        parts.append(int(match[2]))
    if match[3]:
        parts.append(Decimal(match[3]))
    if any(part >= limit for part, limit in zip(parts, (24, 60, 60), strict=False)):
        raise ValueError(f"Not a time of day: {match[0]!r}")
    return tuple(parts)


def _offset_minutes(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "Z":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    if minutes > 14 * 60:
        raise ValueError(f"Not a time zone offset: {text!r}")
    return -minutes if text[0] == "-" else minutes


def _offset(moment: _Temporal) -> int | None:
    return moment.offset if isinstance(moment, DateTime) else None


def _minutes(parts: tuple[int | Decimal, ...]) -> int:
    """From the first day of year 1, the unknown parts taken as the least."""
    year, month, day, hour, minute = (int(p) for p in (*parts[:5], *_LEAST[len(parts) :]))
    return (date(year, month, day).toordinal() * 24 + hour) * 60 + minute


def _utc(parts: tuple[int | Decimal, ...], offset: int) -> tuple[int | Decimal, ...]:
    """Hours, minutes and seconds in UTC, as far as known."""
    hours, minutes = divmod(_minutes(parts) - offset, 60)
    known = max(len(parts) - 3, 2 if offset % 60 else 1)
    return (hours, minutes, *parts[5:])[:known]


def _apart(left: tuple[int | Decimal, ...], right: tuple[int | Decimal, ...]) -> int | None:
    """The order of a moment with an offset and one without: known when far enough apart."""
    common = min(len(left), len(right))
    if left[:common] == right[:common]:
        return None
    if common < 3:
        return -1 if left[:common] < right[:common] else 1
    difference = _minutes(left) - _minutes(right)
    reach = _UNKNOWN_OFFSET if common > 4 else _UNKNOWN_OFFSET + 24 * 60
    return None if abs(difference) <= reach else -1 if difference < 0 else 1


def _day_text(parts: tuple[int | Decimal, ...]) -> str:
    return "-".join(f"{int(p):0{4 if i == 0 else 2}}" for i, p in enumerate(parts))


def _clock_text(parts: tuple[int | Decimal, ...]) -> str:
    return ":".join(f"{p:02}" if isinstance(p, int) else _seconds_text(p) for p in parts)


def _seconds_text(seconds: Decimal) -> str:
    return f"{seconds:f}" if seconds >= 10 else f"0{seconds:f}"


def _offset_text(offset: int | None) -> str:
    if offset is None:
        return ""
    if offset == 0:
        return "Z"
    hours, minutes = divmod(abs(offset), 60)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"
