"""What ``naive`` asks of dates, numbers and quantities, and what every question is made with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.definitions.elements import SearchParameter
from fhir_server.model.datatypes import parse_datetime, parse_period

Json = dict[str, Any]
Values = list[Any]
Row = tuple[str, Values]
"""(resource id, JSON values of the expression)."""
Holds = Callable[[Values], bool]


class Asked(NamedTuple):
    modifier: str
    value: str
    holds: Holds


def some(holds: Callable[[Any], bool]) -> Holds:
    return lambda values: any(holds(value) for value in values)


def missing(rows: list[Row]) -> Iterator[Asked]:
    yield Asked(":missing", "true", lambda values: not values)
    yield Asked(":missing", "false", bool)


def picked(rows: list[Row], parts: Callable[[Any], Iterable[Any]]) -> list[Any]:
    """Some values that occur: the first and the last distinct ones."""
    found = list(dict.fromkeys(part for _, values in rows for v in values for part in parts(v)))
    return found[:1] + found[-1:] if len(found) > 1 else found


def escaped(text: str) -> str:
    for mark in "\\,|$":
        text = text.replace(mark, f"\\{mark}")
    return text


Span = tuple[Any, Any]


def span(value: Any) -> Span | None:
    if isinstance(value, str):
        found = parse_datetime(value)
    elif isinstance(value, dict) and value.keys() & {"start", "end"}:
        found = parse_period(value.get("start"), value.get("end"))
    else:
        return None
    return found.lo, found.hi


# search [lo, hi), stored [low, high): https://hl7.org/fhir/R4/search.html#prefix
DATES: dict[str, Callable[[Any, Any, Any, Any], bool]] = {
    "": lambda lo, hi, low, high: bool(lo <= low and high <= hi),
    "ne": lambda lo, hi, low, high: not (lo <= low and high <= hi),
    "gt": lambda lo, hi, low, high: bool(high > hi),
    "lt": lambda lo, hi, low, high: bool(low < lo),
    "ge": lambda lo, hi, low, high: bool(high > hi or (lo <= low and high <= hi)),
    "le": lambda lo, hi, low, high: bool(low < lo or (lo <= low and high <= hi)),
    "sa": lambda lo, hi, low, high: bool(low >= hi),
    "eb": lambda lo, hi, low, high: bool(high <= lo),
}


def ask_dates(rows: list[Row], _: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)
    if any(isinstance(v, dict) and span(v) is None for _, values in rows for v in values):
        return  # Timing has ranges of its own
    for text in picked(rows, lambda value: [value[:10]] if isinstance(value, str) else []):
        for said in (text, text[:4]):
            lo, hi = span(said) or (0, 0)
            for prefix, compare in DATES.items():
                yield Asked("", prefix + said, some(
                    lambda v, lo=lo, hi=hi, compare=compare:
                    (s := span(v)) is not None and compare(lo, hi, *s)))  # fmt: skip


def implied(number: Decimal) -> Span:
    """The range of a number by its precision."""
    exponent = number.as_tuple().exponent
    half = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0) / 2
    return number - half, number + half


NUMBERS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "": lambda wanted, value: implied(wanted)[0] <= value < implied(wanted)[1],
    "ne": lambda wanted, value: not implied(wanted)[0] <= value < implied(wanted)[1],
    "gt": lambda wanted, value: value > wanted,
    "lt": lambda wanted, value: value < wanted,
    "ge": lambda wanted, value: value >= wanted,
    "le": lambda wanted, value: value <= wanted,
}


def plain(value: Any) -> list[Decimal]:
    """A number, or that of a Quantity without a comparator."""
    if isinstance(value, dict):
        value = None if "comparator" in value else value.get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return []
    return [Decimal(str(value))]


def ask_numbers(rows: list[Row], _: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)
    if any(not plain(v) for _, values in rows for v in values):
        return
    for number in picked(rows, plain):
        for prefix, compare in NUMBERS.items():
            yield Asked("", f"{prefix}{number}", some(
                lambda v, n=number, compare=compare: compare(n, plain(v)[0])))  # fmt: skip


def units(value: Any) -> list[tuple[str, str, str]]:
    if isinstance(value, dict) and {"value", "code", "system"} <= value.keys():
        return [(str(value["value"]), value["system"], value["code"])]
    return []


def ask_quantities(rows: list[Row], _: SearchParameter) -> Iterator[Asked]:
    yield from missing(rows)
    if any(len(plain(v)) != 1 for _, values in rows for v in values):
        return
    for number, system, code in picked(rows, units):
        for prefix, compare in NUMBERS.items():

            def holds(value: Json, n: Any = Decimal(number), c: Any = compare) -> bool:
                return bool(c(n, plain(value)[0]))

            yield Asked("", f"{prefix}{number}", some(holds))
            yield Asked("", f"{prefix}{number}||{escaped(code)}", some(
                lambda v, h=holds, u=code:
                u in {v.get("code"), v.get("unit")} and h(v)))  # fmt: skip
            if prefix == "":
                yield Asked("", f"{number}|{system}|{escaped(code)}", some(
                    lambda v, h=holds, s=system, u=code:
                    v.get("system") == s and v.get("code") == u and h(v)))  # fmt: skip
