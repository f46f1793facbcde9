"""Generalisation and suppression until every class has k records.

Each quasi-identifier has levels, from as it is to nothing. Of all combinations the one is taken
that loses least (the mean of the levels taken, as shares of all levels) and leaves at most the
permitted share of records in classes under k, which are suppressed. They are tried from the least
loss on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from typing import Final, TypeAlias

from fhir_server.model.problem import BadRequest
from operations.deid.risk import Row

Level: TypeAlias = tuple[str, Callable[[Hashable], Hashable]]
"""The name of a level and what a value becomes on it."""

NOTHING: Final = "*"
MOST: Final = 5000
"""Combinations that may have to be tried."""


def _as_it_is(value: Hashable) -> Hashable:
    return value


def _nothing(_: Hashable) -> Hashable:
    return NOTHING


def _first(count: int) -> Callable[[Hashable], Hashable]:
    return lambda value: str(value)[:count] if value else value


def _years(width: int) -> Callable[[Hashable], Hashable]:
    def band(value: Hashable) -> Hashable:
        year = str(value)[:4]
        if not year.isdecimal():
            return value
        low = int(year) // width * width
        return f"{low}-{low + width - 1}"

    return band


def _numbers(width: int) -> Callable[[Hashable], Hashable]:
    def band(value: Hashable) -> Hashable:
        try:
            low = int(float(str(value)) // width) * width
        except ValueError:
            return value
        return f"{low}-{low + width - 1}"

    return band


KEPT: Final[Level] = ("kept", _as_it_is)
GONE: Final[Level] = ("suppressed", _nothing)
PLAIN: Final[tuple[Level, ...]] = (KEPT, GONE)
HIERARCHIES: Final[dict[str, tuple[Level, ...]]] = {
    "date": (
        KEPT,
        ("month", _first(7)),
        ("year", _first(4)),
        ("5 years", _years(5)),
        ("10 years", _years(10)),
        ("20 years", _years(20)),
        GONE,
    ),
    "postal-code": (
        KEPT,
        ("3 characters", _first(3)),
        ("2 characters", _first(2)),
        ("1 character", _first(1)),
        GONE,
    ),
    "number": (KEPT, ("of 5", _numbers(5)), ("of 10", _numbers(10)), ("of 20", _numbers(20)), GONE),
    "category": PLAIN,
}
"""Kind of quasi-identifier -> its levels."""


@dataclass(frozen=True, slots=True)
class Reached:
    """``levels``: the name of each quasi-identifier's level; ``rows``: what is left, None for a
    record that is suppressed. ``loss``: from 0 (nothing) to 1 (everything)."""

    levels: tuple[str, ...]
    rows: tuple[Row | None, ...]
    suppressed: int
    loss: Fraction


def reach(
    rows: Sequence[Row],
    hierarchies: Sequence[Sequence[Level]],
    k: int,
    most: Fraction,
    weights: Sequence[int] | None = None,
    worth: Sequence[int] | None = None,
) -> Reached | None:
    """``most``: the share of records that may be suppressed. ``weights``: how many records each
    row is of, else one. ``worth``: of each quasi-identifier, what it counts in the loss, else all
    alike. None: fewer records than k. BadRequest: too many combinations."""
    if prod(map(len, hierarchies)) > MOST:
        raise BadRequest("too many quasi-identifiers with levels", code="too-costly")
    weights = [1] * len(rows) if weights is None else weights
    total = sum(weights)
    if total < k:
        return None
    values = list(zip(*rows, strict=True))
    columns = [
        [[generalise(v) for v in column] for _, generalise in levels]
        for column, levels in zip(values, hierarchies, strict=True)
    ]
    worth = [1] * len(hierarchies) if worth is None else worth
    for levels in _from_the_least(hierarchies, worth):
        some = list(zip(*(columns[n][level] for n, level in enumerate(levels)), strict=True))
        sizes: Counter[Row] = Counter()
        for row, weight in zip(some, weights, strict=True):
            sizes[row] += weight
        small = sum(size for size in sizes.values() if size < k)
        if small <= most * total:
            return Reached(
                tuple(hierarchies[n][level][0] for n, level in enumerate(levels)),
                tuple(row if sizes[row] >= k else None for row in some),
                small,
                _loss(levels, hierarchies, worth),
            )
    return None


def _loss(
    levels: Sequence[int], hierarchies: Sequence[Sequence[Level]], worth: Sequence[int]
) -> Fraction:
    shares = [
        Fraction(n * much, max(len(h) - 1, 1))
        for n, h, much in zip(levels, hierarchies, worth, strict=True)
    ]
    return sum(shares, Fraction(0)) / sum(worth)


def _from_the_least(
    hierarchies: Sequence[Sequence[Level]], worth: Sequence[int]
) -> list[tuple[int, ...]]:
    """All combinations; the last one suppresses every quasi-identifier, and always reaches k."""
    every = list(product(*(range(len(levels)) for levels in hierarchies)))
    return sorted(every, key=lambda levels: (_loss(levels, hierarchies, worth), levels))
