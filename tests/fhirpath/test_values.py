"""Dates of different precision and offset; durations (http://hl7.org/fhirpath/N1/)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fhir_server.fhirpath import FhirPathError, compile
from fhir_server.fhirpath.values import Date, DateTime, Quantity, Time, add


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [
        ("2018-03-01T10:30:00", "2018-03-01T10:30:00.0", 0),
        ("2018-03", "2018-03-01", None),
        ("2018-02", "2018-03-01", -1),
        ("9999-12-31T23:00:00-05:00", "9999-12-31T23:00:00+01:00", 1),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00Z", -1),
        ("2020-01-01T00:30:00+01:00", "2019-12-31T23:30:00Z", 0),
        ("2020-01-01T00:30:00+00:30", "2020-01-01T00Z", None),
        ("2020-01-01T12:00:00", "2020-01-01T13:00:00Z", None),
        ("2020-01-01T12:00:00", "2020-01-02T13:00:00Z", -1),
        ("2020-01-01", "2020-01-02T13:00:00Z", None),
        ("2020-01-01", "2020-01-03T15:00:00Z", -1),
        ("2020", "2020-01-03T15:00:00Z", None),
        ("2019", "2020-01-03T15:00:00Z", -1),
    ],
)
def test_order_of_moments(left: str, right: str, order: int | None) -> None:
    assert DateTime.parse(left).compare(DateTime.parse(right)) == order
    assert DateTime.parse(right).compare(DateTime.parse(left)) == (
        None if order is None else -order
    )


@pytest.mark.parametrize(
    "text", ["2015", "2015-02", "2015-02-04", "2015-02-04T05:06:07.0080+05:30", "2015-02-04T05:06Z"]
)
def test_texts_keep_their_precision(text: str) -> None:
    assert str(DateTime.parse(text)) == text


@pytest.mark.parametrize("text", ["2015-02-30", "2015-13", "15", "2015-02T10:00", "2015-02-04T25"])
def test_no_such_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        DateTime.parse(text)


@pytest.mark.parametrize(
    ("start", "amount", "unit", "end"),
    [
        ("2020-01-31", "1", "month", "2020-02-29"),
        ("2020-02-29", "1", "year", "2021-02-28"),
        ("2020", "24", "month", "2022"),
        ("2020-03", "-61", "day", "2020-01"),
        ("2020-03-01", "-1", "day", "2020-02-29"),
        ("2020-03-01", "25", "hour", "2020-03-02"),
    ],
)
def test_durations(start: str, amount: str, unit: str, end: str) -> None:
    assert str(add(Date.parse(start), Quantity(Decimal(amount), unit))) == end


def test_time_of_day_goes_round() -> None:
    assert str(add(Time.parse("23:30:00"), Quantity(Decimal(90), "minute"))) == "01:00:00"


def test_outside_the_calendar_is_empty() -> None:
    assert compile("@9999-12-31 + 1 day").evaluate({}) == []
    assert compile("@2020 - 5000 years").evaluate({}) == []
    assert compile("@2020-01-01 + 99999999999999999999 seconds").evaluate({}) == []


def test_units_that_are_no_durations_are_refused() -> None:
    with pytest.raises(FhirPathError):
        compile("@2020-01-01 + 1 'kg'").evaluate({})


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("(2 'g' / 4 'dL' * 3 'L').toString()", "1.5 'g/dL.L'"),
        ("(2 'g/dL' / 4 'g/dL').toString()", "0.5 '1'"),
        ("(6 'm' / 2 'm/s') = 3 's'", True),
        ("1 year = 12 months", True),
        ("1 year = 1 'a'", None),
        ("1 year ~ 1 'a'", True),
        ("1 'kg' > 999 'g'", True),
        ("1 'kg' > 1 'm'", None),
        ("1 'kg' = 1000 'g'", True),
        ("37.0 'Cel' = 98.6 '[degF]'", True),
    ],
)
def test_quantities(expression: str, result: object) -> None:
    assert compile(expression).evaluate({}) == ([] if result is None else [result])
