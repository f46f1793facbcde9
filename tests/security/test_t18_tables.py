"""T18: what somebody wrote into a record is no formula in the table that another one opens."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.fhirpath.parse import parse
from operations.views.definition import Column
from operations.views.tables import FORMATS, named_format

COLUMNS = [Column("a", parse("true"), "string", collection=False, place="")]


def written(name: str, value: Any) -> str:
    table = named_format(name).table(COLUMNS, True)
    return (table.head() + table.rows([(value,)]) + table.tail()).decode()


@pytest.mark.parametrize(
    "value",
    ["=cmd|' /C calc'!A0", "@SUM(1)", "+cmd|x!A0", "-2+3+cmd|x!A0", "\t=1", "\r=1", "=1\r\n=2"],
)
def test_t18_formulas_are_text(value: str) -> None:
    rows = list(csv.reader(io.StringIO(written("csv", value), newline="")))
    assert rows == [["a"], [f"'{value}"]]
    assert json.loads(written("ndjson", value)) == {"a": value}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Smith, 'Jan'", "Smith, 'Jan'"),
        ("+1 (555) 123-45", "+1 (555) 123-45"),
        ("-5.0", "-5.0"),
        (Decimal("-5.00"), "-5.00"),
        (-5, "-5"),
        ("a=b", "a=b"),
        ("1990-01-01", "1990-01-01"),
        ("-", "-"),
        (None, ""),
    ],
)
def test_t18_what_is_no_formula_is_as_it_was(value: Any, shown: str) -> None:
    assert list(csv.reader(io.StringIO(written("csv", value))))[1:] == [[shown]]


def test_t18_no_other_format_is_opened_by_a_spreadsheet() -> None:
    """One more of them needs a look here."""
    assert {one.name for one in FORMATS} == {"ndjson", "json", "csv", "parquet"}
