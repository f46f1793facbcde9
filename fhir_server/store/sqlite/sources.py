"""Where strings and ranges are collected from: what a predicate that is no posting list reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from fhir_server.search import plan
from fhir_server.search.plan import Predicate
from fhir_server.store.sqlite import text
from fhir_server.store.sqlite.keys import DAY, DURATIONS, Keys, stretches

Bounds: TypeAlias = tuple[int | float, int | float]
Systems: TypeAlias = Callable[[int], list[int] | None]

INFINITE: Final = float("inf")
_TEXTS: Final = "SELECT DISTINCT rid FROM string WHERE h = ? AND text >= ? AND text <= ? LIMIT ?"
_MOMENTS: Final = "SELECT rid FROM posting WHERE h = ? AND s = ? AND date BETWEEN ? AND ? LIMIT ?"
_SPANS: Final = (
    "SELECT DISTINCT rid FROM span WHERE h = ? AND lo >= ? AND lo <= ? AND hi >= ? LIMIT ?"
)


def collectable(part: Predicate) -> bool:
    match part:
        case plan.StringIs(_, wanted, mode):
            return mode == "starts" and wanted != ""
        case plan.DateIs() | plan.NumberIs() | plan.QuantityIs():
            return True
        case _:
            return text.expression(part) is not None


def _bounds(prefix: plan.Prefix, lo: int | float, hi: int | float) -> Bounds:
    """(least upper end, greatest lower end) that a match can have; never too narrow."""
    match prefix:
        case "ne":
            return -INFINITE, INFINITE
        case "gt" | "ge" | "sa":
            return lo, INFINITE
        case "lt" | "le" | "eb":
            return -INFINITE, hi
        case "eq" | "ap":
            return lo, hi


def sources(
    keys: Keys, systems: Systems, type_: str, part: Predicate
) -> Iterable[tuple[str, tuple[int | float | str, ...]]]:
    """Statements that find candidates (rid), the last parameter is a limit."""
    match part:
        case plan.StringIs(param, start, "starts") if start:
            yield _TEXTS, (keys.string(type_, param), start, start + "\U0010ffff")
        case plan.DateIs(param, prefix, lo, hi):
            low, high = _bounds(prefix, lo, hi)
            short, long = (keys.dates(type_, param, short=s) for s in (True, False))
            yield _SPANS, (short, low - DAY, high, low)
            yield _SPANS, (long, -INFINITE, high, low)
            h = keys.moments(type_, param)
            for shape in systems(h) or ():
                for stretch in stretches(prefix, lo, hi, DURATIONS[shape - 1]):
                    yield _MOMENTS, (h, shape, *stretch)
        case plan.NumberIs(param, prefix, value, lo, hi):
            low, high = _bounds(prefix, min(lo, value), max(hi, value))
            short, long = (keys.numbers(type_, param, short=s) for s in (True, False))
            yield _SPANS, (short, low, high, low)
            yield _SPANS, (long, -INFINITE, high, low)
        case plan.QuantityIs(param, prefix, value, lo, hi):
            unit = part.canonical_unit
            low, high = _bounds(prefix, min(lo, value), max(hi, value))
            short, long = (keys.quantities(type_, param, unit, short=s) for s in (True, False))
            yield _SPANS, (short, low, high, low)
            yield _SPANS, (long, -INFINITE, high, low)
