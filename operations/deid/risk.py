"""How easily people can be found again in a table: k, l, t and three risks.

Records that agree in all quasi-identifiers are an equivalence class. Of class sizes f: k is the
least; the prosecutor's risk (who knows that somebody is in the data) is 1/f, its maximum 1/k; the
journalist's the same over the sizes F of a population; the marketer's (who tries everybody) the
mean of these over all records, (number of classes)/(number of records).
l and t are about a sensitive attribute: the least number of its values in a class; the greatest
distance between its distribution in a class and in all (earth mover's distance: equal steps
between values that have no order, half the sum of differences; else over the ordered values).

Sweeney 2002; Machanavajjhala et al. 2007; Li et al. 2007; El Emam, "Guide to the De-Identification
of Personal Health Information", ch. 16.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

Row: TypeAlias = tuple[Hashable, ...]
"""The quasi-identifiers of one record."""


@dataclass(frozen=True, slots=True)
class Risk:
    """``classes`` of equal records; ``unique``: records alone in theirs. ``below``: the share of
    records in classes under each size that was asked for. ``journalist``, ``diversity`` (l)
    and ``closeness`` (t): None where nothing was given to compute them of."""

    records: int
    classes: int
    k: int
    unique: int
    prosecutor: Fraction
    average: Fraction
    below: Mapping[int, Fraction]
    journalist: Fraction | None = None
    marketer: Fraction | None = None
    diversity: int | None = None
    closeness: Fraction | None = None


def risk(
    rows: Sequence[Row],
    sensitive: Sequence[Hashable] | None = None,
    population: Mapping[Row, int] | None = None,
    thresholds: Sequence[int] = (3, 5, 11),
) -> Risk:
    """Of at least one record. ``population``: how many people there are of each class; a class that
    is larger in the data counts as large as there."""
    sizes = Counter(rows)
    total = len(rows)
    whole = {row: max(size, (population or {}).get(row, 0)) for row, size in sizes.items()}
    each = sum((Fraction(size, whole[row]) for row, size in sizes.items()), Fraction(0)) / total
    return Risk(
        records=total,
        classes=len(sizes),
        k=min(sizes.values()),
        unique=sum(size == 1 for size in sizes.values()),
        prosecutor=Fraction(1, min(sizes.values())),
        average=Fraction(len(sizes), total),
        below={t: Fraction(sum(s for s in sizes.values() if s < t), total) for t in thresholds},
        journalist=None if population is None else Fraction(1, min(whole.values())),
        marketer=each,
        diversity=None if sensitive is None else _diversity(rows, sensitive),
        closeness=None if sensitive is None else _closeness(rows, sensitive),
    )


def _by_class(rows: Sequence[Row], sensitive: Sequence[Hashable]) -> list[Counter[Hashable]]:
    found: dict[Row, Counter[Hashable]] = defaultdict(Counter)
    for row, value in zip(rows, sensitive, strict=True):
        found[row][value] += 1
    return list(found.values())


def _diversity(rows: Sequence[Row], sensitive: Sequence[Hashable]) -> int:
    return min(len(counts) for counts in _by_class(rows, sensitive))


def _closeness(rows: Sequence[Row], sensitive: Sequence[Hashable]) -> Fraction:
    everybody = Counter(sensitive)
    ordered = all(isinstance(v, int | float | Decimal) for v in everybody)
    values = sorted(everybody) if ordered else list(everybody)  # type: ignore[type-var]
    return max(_distance(c, everybody, values, ordered) for c in _by_class(rows, sensitive))


def _distance(
    some: Counter[Hashable], all_: Counter[Hashable], values: Sequence[Hashable], ordered: bool
) -> Fraction:
    own, total = some.total(), all_.total()
    steps = [Fraction(some[value], own) - Fraction(all_[value], total) for value in values]
    if not ordered:
        return sum((abs(step) for step in steps), Fraction(0)) / 2
    if len(values) < 2:
        return Fraction(0)
    moved, carried = Fraction(0), Fraction(0)
    for step in steps:
        carried += step
        moved += abs(carried)
    return moved / (len(values) - 1)
