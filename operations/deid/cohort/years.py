"""Which years are shown of whom: everybody shows the same as at least k - 1 others.

People are parted by a year that some have a date in and others have not, as evenly as that goes,
and again, until a part would be smaller than k. Of a part those years are shown that all of it
have. Whoever knows every date of a person finds the whole part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

MOST_PARTS: Final = 1024
"""Parts are no smaller than this share of all people, however many there are."""


def parts(people: Mapping[int, frozenset[int]], k: int) -> tuple[list[frozenset[int]], list[int]]:
    """``people``: number -> years. -> the years shown of each part, and of each person, in the
    order of ``sorted(people)``, the part."""
    order = sorted(people)
    least = max(k, len(order) // MOST_PARTS)
    shown: list[frozenset[int]] = []
    of = [0] * len(order)
    todo = [list(range(len(order)))] if order else []
    while todo:
        members = todo.pop()
        year = _divider([people[order[n]] for n in members], least)
        if year is None:
            common = frozenset.intersection(*(people[order[n]] for n in members))
            for n in members:
                of[n] = len(shown)
            shown.append(common if len(members) >= k else frozenset())
            continue
        todo.append([n for n in members if year in people[order[n]]])
        todo.append([n for n in members if year not in people[order[n]]])
    return shown, of


def _divider(sets: Sequence[frozenset[int]], least: int) -> int | None:
    """The year that parts them most evenly, the latest of equals; None: none does."""
    counts: dict[int, int] = {}
    for years in sets:
        for year in years:
            counts[year] = counts.get(year, 0) + 1
    fair = [
        (min(count, len(sets) - count), year)
        for year, count in counts.items()
        if min(count, len(sets) - count) >= least
    ]
    return max(fair)[1] if fair else None
