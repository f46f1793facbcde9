"""Partial dates and decimals as ranges; the search prefixes on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model import datatypes as dt
from fhir_server.model.datatypes import Span


def at(*parts: int) -> int:
    return int(
        (datetime(*parts, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    ) * (  # type: ignore[misc,arg-type]
        dt.SECOND
    )


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("2024", at(2024, 1, 1), at(2025, 1, 1)),
        ("0001", at(1, 1, 1), at(2, 1, 1)),
        ("9999", at(9999, 1, 1), at(9999, 12, 31) + dt.DAY),
        ("9999-12", at(9999, 12, 1), at(9999, 12, 31) + dt.DAY),
        ("2024-02", at(2024, 2, 1), at(2024, 3, 1)),
        ("2024-12", at(2024, 12, 1), at(2025, 1, 1)),
        ("2024-02-29", at(2024, 2, 29), at(2024, 3, 1)),
        ("2024-01-01T10:00:00Z", at(2024, 1, 1, 10), at(2024, 1, 1, 10) + dt.SECOND),
        ("2024-01-01T10:00:00.5Z", at(2024, 1, 1, 10) + 500_000, at(2024, 1, 1, 10) + 600_000),
        ("2024-01-01T00:00:00.1234567Z", at(2024, 1, 1) + 123_456, at(2024, 1, 1) + 123_457),
        ("2024-01-01T01:00:00+02:00", at(2023, 12, 31, 23), at(2023, 12, 31, 23) + dt.SECOND),
        ("2024-01-01T01:00:00-05:30", at(2024, 1, 1, 6, 30), at(2024, 1, 1, 6, 30) + dt.SECOND),
        ("2016-12-31T23:59:60Z", at(2017, 1, 1), at(2017, 1, 1) + dt.SECOND),
        ("0001-01-01T00:00:00+14:00", at(1, 1, 1) - 14 * 60 * dt.MINUTE, None),
    ],
)
def test_dates(text: str, lo: int, hi: int | None) -> None:
    assert dt.parse_datetime(text) == Span(lo, hi if hi is not None else lo + dt.SECOND)
    assert dt.parse_search_date(text) == dt.parse_datetime(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24",
        "2024-13",
        "2024-00",
        "2024-02-30",
        "2023-02-29",
        "2024-04-31",
        "0000",
        "2024-1-1",
        "2024-01-01T",
        "2024-01-01T10",
        "2024-01-01T24:00:00Z",
        "2024-01-01T10:00:61Z",
        "20240101",
        "2024-01-01 10:00:00Z",
        "2024-01-01T10:00:00+14:30",
        "2024-01-01T10:00:00z",
        "２０２４",
        "2024-01-01T10:00:00.Z",
        "2024-01-01T10:00:00 02:00",
        "2024-01-01\n",
        "-2024",
        "12024",
    ],
)
def test_refused_everywhere(text: str) -> None:
    for parse in (dt.parse_datetime, dt.parse_search_date):
        with pytest.raises(ValueError, match=r"is|day|year|prefix|range"):
            parse(text)


@pytest.mark.parametrize("text", ["2024-01-01T10:00", "2024-01-01T10:00Z", "2024-01-01T10:00:00"])
def test_only_searches_may_leave_out_seconds_and_zone(text: str) -> None:
    with pytest.raises(ValueError, match="required"):
        dt.parse_datetime(text)
    assert dt.parse_search_date(text).lo == at(2024, 1, 1, 10)


def test_minutes_are_a_minute_long() -> None:
    assert dt.parse_search_date("2024-01-01T10:00+02:00") == Span(
        at(2024, 1, 1, 8), at(2024, 1, 1, 8, 1)
    )


def test_values_without_zone_are_taken_in_the_default_zone() -> None:
    kyiv = ZoneInfo("Europe/Kyiv")
    assert dt.parse_search_date("2024-03-31", kyiv) == Span(  # the day of 23 hours
        at(2024, 3, 30, 22), at(2024, 3, 31, 21)
    )
    assert (
        dt.parse_search_date("9999", timezone(timedelta(hours=2))).hi
        == at(9999, 12, 31) + dt.DAY - 2 * 60 * dt.MINUTE
    )
    assert dt.parse_search_date("2024-01-01T00:00Z", kyiv).lo == at(2024, 1, 1)


def test_periods() -> None:
    assert dt.parse_period("2024", None) == Span(at(2024, 1, 1), dt.FUTURE)
    assert dt.parse_period(None, "2024-01-31") == Span(dt.PAST, at(2024, 2, 1))
    assert dt.parse_period(None, None) == dt.ALWAYS


def test_times() -> None:
    assert dt.parse_time("00:00:01.50") == Span(1_500_000, 1_510_000)
    with pytest.raises(ValueError, match="not a time"):
        dt.parse_time("24:00:00")


@given(st.integers(at(1, 1, 1), at(9999, 12, 31) + dt.DAY - 1))
def test_instants_round_trip(micros: int) -> None:
    cut = micros // 1000 * 1000
    assert dt.parse_datetime(dt.format_instant(micros)) == Span(cut, cut + 1000)
    assert dt.parse_instant(dt.format_instant(micros)) == cut


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("1e2", "95", "105"),
        ("1.0e2", "95", "105"),
        ("5.4", "5.35", "5.45"),
        ("-5.4", "-5.45", "-5.35"),
        ("0", "-0.5", "0.5"),
        ("5.40e-3", "0.005395", "0.005405"),
        ("+3", "2.5", "3.5"),
        (
            "1234567890123456789012345678901234567890.1",
            *["1234567890123456789012345678901234567890" + d for d in (".05", ".15")],
        ),
    ],
)
def test_number_ranges(text: str, lo: str, hi: str) -> None:
    assert dt.parse_number_range(text) == (Decimal(lo), Decimal(hi))


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "Infinity", "1_0", ".5", "5.", "1e9999", "١", "1 ", "0x1", "9" * 65]
)
def test_refused_numbers(text: str) -> None:
    for parse in (dt.parse_number, dt.parse_number_range):
        with pytest.raises(ValueError, match="not a number"):
            parse(text)


def test_approximate() -> None:
    assert dt.approximate_number("100") == (Decimal(90), Decimal(110))
    assert dt.approximate_number("-1") == (Decimal("-1.5"), Decimal("-0.5"))
    now, day = at(2024, 1, 11), Span(at(2024, 1, 1), at(2024, 1, 2))
    assert dt.approximate_span(day, now) == Span(
        day.lo - 9 * dt.DAY // 10, day.hi + 9 * dt.DAY // 10
    )
    assert dt.approximate_span(day, at(2024, 1, 1, 12)) == day


# The examples of https://hl7.org/fhir/R4/search.html#date and #prefix, as
# (searched, stored start, stored end, matches).
EXAMPLES = [
    ("eq2013-01-14", "2013-01-14T00:00:00Z", "", True),
    ("eq2013-01-14", "2013-01-14T10:00:00Z", "", True),
    ("eq2013-01-14", "2013-01-15T00:00:00Z", "", False),
    ("ne2013-01-14", "2013-01-15T00:00:00Z", "", True),
    ("ne2013-01-14", "2013-01-14T00:00:00Z", "", False),
    ("lt2013-01-14T10:00", "2013-01-14", "", True),
    ("gt2013-01-14T10:00", "2013-01-14", "", True),
    ("ge2013-03-14", "2013-01-21", None, True),
    ("le2013-03-14", "2013-01-21", None, True),
    ("sa2013-03-14", "2013-03-15", None, True),
    ("sa2013-03-14", "2013-01-21", None, False),
    ("sa2013-03-14", None, "2013-01-21", False),
    ("eb2013-03-14", "2013-03-15", None, False),
    ("eb2013-03-14", "2013-01-21", None, False),
    ("eb2013-03-14", None, "2013-01-21", True),
    ("ap2013-03-14", "2013-03-14", "", True),
    ("ap2013-03-14", "2013-01-21", "", True),
    ("ap2013-03-14", "2015-06-15", "", False),
    ("eq2013", "2012-12-31", "2013-01-02", False),
    ("ge2013-01-14", "2013-01-14T10:00:00Z", "", True),
    ("gt2013-01-14", "2013-01-14T10:00:00Z", "", False),
]


@pytest.mark.parametrize(("search", "start", "end", "expected"), EXAMPLES)
def test_prefix_examples(search: str, start: str | None, end: str | None, expected: bool) -> None:
    prefix, text = dt.split_prefix(search)
    searched = dt.parse_search_date(text)
    if prefix == "ap":
        searched = dt.approximate_span(searched, at(2014, 9, 14))
    stored = dt.parse_datetime(start or "") if end == "" else dt.parse_period(start, end)
    assert dt.COMPARE_SPANS[prefix](*searched, *stored) is expected


def test_numbers_ignore_precision_where_the_specification_says_so() -> None:
    lo, hi = dt.parse_number_range("100")
    row = {p: f(100.0, float(lo), float(hi), 100.0, 100.0) for p, f in dt.COMPARE_NUMBERS.items()}
    assert [p for p, yes in row.items() if yes] == ["eq", "ge", "le", "ap"]
    row = {p: f(100.0, float(lo), float(hi), 100.4, 100.4) for p, f in dt.COMPARE_NUMBERS.items()}
    assert [p for p, yes in row.items() if yes] == ["eq", "gt", "ge", "sa", "ap"]


@pytest.mark.parametrize("text", ["xx2024", "g2024", "GE2024", "ge", "é2024"])
def test_unknown_prefix(text: str) -> None:
    with pytest.raises(ValueError, match=r"is|day|year|prefix|range"):
        dt.parse_search_date(dt.split_prefix(text)[1])
