"""``vehr deid risk``: the risks of a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.config import SettingsError
from operations.deid.reach import HIERARCHIES, reach
from operations.deid.risk import Row, risk
from operations.risk_report import decimal

Table = list[dict[str, str]]


def risk_of(
    file: Annotated[Path, typer.Argument(help="A table (CSV with a header).")],
    quasi: Annotated[
        list[str],
        typer.Option(help=f"A column, or COLUMN:KIND ({', '.join(HIERARCHIES)}); repeatable."),
    ],
    sensitive: Annotated[str, typer.Option(help="The column of l and t.")] = "",
    population: Annotated[Path | None, typer.Option(help="The same columns of everybody.")] = None,
    k: Annotated[int, typer.Option(help="Say how it can be reached.")] = 0,
    suppress: Annotated[float, typer.Option(help="Share that may be suppressed for that.")] = 0.05,
) -> None:
    """Print k, l, t and the prosecutor's, journalist's and marketer's risk of a table."""
    columns, kinds = zip(*(_kind(one) for one in quasi), strict=True)
    table = _read(file, [*columns, *([sensitive] if sensitive else ())])
    rows = _rows(table, columns)
    values = [_number(one[sensitive]) for one in table] if sensitive else None
    everybody = None
    if population is not None:
        everybody = Counter(_rows(_read(population, columns), columns))
    found = risk(rows, values, everybody)
    said: list[tuple[str, int | Fraction | None]] = [
        ("records", found.records),
        ("classes", found.classes),
        ("k", found.k),
        ("unique", found.unique),
        ("l", found.diversity),
        ("t", found.closeness),
        ("prosecutor", found.prosecutor),
        ("journalist", found.journalist),
        ("marketer", found.marketer),
        *((f"below-{size}", share) for size, share in found.below.items()),
    ]
    for name, value in said:
        if value is not None:
            print(f"{name:<11} {decimal(value) if isinstance(value, Fraction) else value}")
    if k:
        _print_reached(rows, columns, kinds, k, Fraction(str(suppress)))


def _print_reached(
    rows: Sequence[Row], columns: Sequence[str], kinds: Sequence[str], k: int, most: Fraction
) -> None:
    reached = reach(rows, [HIERARCHIES[kind] for kind in kinds], k, most)
    if reached is None:
        print(f"k = {k} cannot be reached: there are fewer records")
        return
    levels = [f"{name}: {level}" for name, level in zip(columns, reached.levels, strict=True)]
    print(f"for k = {k}: {', '.join(levels)}; {reached.suppressed} records suppressed")


def _kind(text: str) -> tuple[str, str]:
    column, _, kind = text.partition(":")
    if (kind or "category") not in HIERARCHIES:
        raise SettingsError(f"--quasi {text}: the kind is one of {', '.join(HIERARCHIES)}")
    return column, kind or "category"


def _read(file: Path, columns: Sequence[str]) -> Table:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        table = list(csv.DictReader(lines))
    if not table:
        raise SettingsError(f"{file} has no records")
    for column in columns:
        if any(one.get(column) is None for one in table):
            raise SettingsError(f"{file} has no column {column!r}, or not in every record")
    return table


def _rows(table: Table, columns: Sequence[str]) -> list[Row]:
    return [tuple(one[column] for column in columns) for one in table]


def _number(text: str) -> str | Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text
