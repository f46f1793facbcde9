"""What may be shown of a set of people: the tables by which its resources are rewritten."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Final, TypeAlias

from .declared import Declared

HIDDEN: Final = "*"
"""In place of years that are not shown."""
Cell: TypeAlias = tuple[str, str]
"""What a resource is about, and the years that are shown in it."""
Class: TypeAlias = tuple[str, str, str, str, str]
"""Of a number: the cell, its path, what is near, its unit."""


class Groups:
    """Values that lie next to each other, each group of at least k people: the mean of a group
    stands for each of its values, with no more places than these have.

    Univariate microaggregation (Domingo-Ferrer and Mateo-Sanz 2002).
    """

    __slots__ = ("_lows", "_means", "_places")

    def __init__(self) -> None:
        self._lows, self._means, self._places = array("d"), array("d"), array("b")

    def __len__(self) -> int:
        return len(self._lows)

    def add(self, low: float, mean: float, places: int) -> None:
        """The next one, from ``low`` on."""
        self._lows.append(low)
        self._means.append(mean)
        self._places.append(min(places, 12))

    def of(self, value: Decimal | int) -> Decimal:
        """What stands for it."""
        at = max(bisect_right(self._lows, float(value)) - 1, 0)
        return rounded(self._means[at], self._places[at])

    def tell(self) -> bytes:
        return self._lows.tobytes() + self._means.tobytes()


def rounded(mean: float, places: int) -> Decimal:
    """With no more places than values have."""
    return Decimal(f"{mean:.{min(places, 12)}f}")


@dataclass(slots=True)
class Shown:
    """``levels``: of each quasi-identifier, its name and level; ``rows``: the demographics (as
    they are) that are hidden as a whole, None: all. ``codes``: (path, system|code) -> what is
    shown, None: nothing; what is not in it neither. ``cells``: that show their years.
    ``numbers``: the groups of values by class; a number of another class is hidden."""

    declared: Declared
    people: int = 0
    levels: tuple[tuple[str, str], ...] = ()
    suppressed: int = 0
    rows: frozenset[tuple[str, ...]] | None = None
    parts: tuple[frozenset[int], ...] = ()
    codes: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
    cells: frozenset[Cell] = frozenset()
    numbers: Mapping[Class, Groups] = field(default_factory=dict)
    _about: dict[str, str] = field(default_factory=dict)

    def about(self, text: str) -> str:
        """What something is about, in codes as they are shown."""
        if not self.declared.codes or not text:
            return text
        found = self._about.get(text)
        if found is None:
            path, *keys = text.split("\n")
            shown = [self.codes.get((path, key)) for key in keys]
            found = "\n".join([path, *dict.fromkeys(key for key in shown if key)])
            self._about[text] = found
        return found

    def cell(self, about: str, years: Iterable[int], seen: frozenset[int]) -> Cell:
        """Of a resource; ``seen``: what may be of its patient. Too rare a cell shows no year."""
        whole = (self.about(about), self.named(years, seen))
        return whole if whole in self.cells or not whole[1] else (whole[0], HIDDEN)

    def named(self, years: Iterable[int], seen: frozenset[int]) -> str:
        """Years as they are shown, "" where there are none."""
        if not self.declared.dates:
            return ""
        return " ".join(sorted({str(year) if year in seen else HIDDEN for year in years}))

    def digest(self) -> str:
        """The same where the same would be shown of the same."""
        made = blake2b(digest_size=16)
        said = (
            self.people, self.levels, self.suppressed, sorted(self.rows or ()),
            [sorted(part) for part in self.parts],
            sorted((*key, value or "") for key, value in self.codes.items()),
            sorted(self.cells),
        )  # fmt: skip
        made.update(repr(said).encode())
        for name in sorted(self.numbers):
            made.update(repr(name).encode() + self.numbers[name].tell())
        return made.hexdigest()
