"""Everything that a set gives away, counted: one pass over it, noted on disk.

A SQLite file without a name holds it: no memory beyond its cache, nothing that anybody else can
open, and gone with the connection. From it follows, step by step, what may be shown.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Final, TypeAlias

from .acts import Noting
from .shown import HIDDEN, Cell, Class, Groups, Shown
from .sizes import kept, noted
from .standing import Standing
from .wholes import places

Parents: TypeAlias = Callable[[str, str], Awaitable[str | None]]
"""(system, code) -> the code above it in the same system, None if nobody knows one."""

MOST_STEPS: Final = 12
"""Generations that a code may be generalised by."""

_TABLES: Final = """
CREATE TABLE year (p INTEGER, year INTEGER, PRIMARY KEY (p, year)) WITHOUT ROWID;
CREATE TABLE lent (target INTEGER, p INTEGER, PRIMARY KEY (target, p)) WITHOUT ROWID;
CREATE TABLE quasi (p INTEGER PRIMARY KEY, said TEXT);
CREATE TABLE code (path TEXT, code TEXT, p INTEGER, PRIMARY KEY (path, code, p)) WITHOUT ROWID;
CREATE TABLE resource (r INTEGER PRIMARY KEY, p INTEGER, about TEXT, years TEXT);
CREATE TABLE number (r INTEGER, path TEXT, near TEXT, unit TEXT, value REAL, places INTEGER);
CREATE TABLE part (p INTEGER PRIMARY KEY, part INTEGER);
"""
_OF: Final = "coalesce(lent.p, {0}.p) FROM {0} LEFT JOIN lent ON lent.target = {0}.p"
"""Of whom a row is: of a lent resource of each to whom it is."""


class Census:
    """Of one set. ``note`` every resource, then ask."""

    def __init__(self, k: int) -> None:
        self.k = k
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.executescript("PRAGMA temp_store=FILE; PRAGMA journal_mode=OFF;" + _TABLES)
        self._db.execute("BEGIN")
        self._resources = 0

    def close(self) -> None:
        self._db.close()

    def note(
        self, whose: Standing, about: str, said: Noting, quasi: tuple[str, ...] | None
    ) -> None:
        """One resource, as the rules leave it. ``quasi``: of a Patient."""
        p, db = whose.owner, self._db
        if p is None:
            return
        self._resources += 1
        r = self._resources
        if quasi is not None:
            db.execute("INSERT OR REPLACE INTO quasi VALUES (?, ?)", (p, json.dumps(quasi)))
        db.executemany("INSERT OR IGNORE INTO lent VALUES (?, ?)", [(t, p) for t in whose.lends])
        db.executemany("INSERT OR IGNORE INTO year VALUES (?, ?)", [(p, y) for y in said.years])
        rows = [(path, code, p) for path, code in said.codes]
        db.executemany("INSERT OR IGNORE INTO code VALUES (?, ?, ?)", rows)
        years = " ".join(map(str, sorted(said.years)))
        db.execute("INSERT INTO resource VALUES (?, ?, ?, ?)", (r, p, about, years))
        db.executemany(
            "INSERT INTO number VALUES (?, ?, ?, ?, ?, ?)",
            [(r, path, near, unit, float(v), places(v)) for path, near, unit, v in said.numbers],
        )

    def quasi(self) -> list[tuple[str, ...]]:
        """The demographics, one row a patient."""
        found = self._db.execute("SELECT said FROM quasi ORDER BY p")
        return [tuple(json.loads(said)) for (said,) in found]

    def years(self) -> dict[int, frozenset[int]]:
        """Of each person."""
        query = "SELECT year.year, " + _OF.format("year")
        found: dict[int, set[int]] = {p: set() for (p,) in self._db.execute("SELECT p FROM quasi")}
        for year, p in self._db.execute(query):
            found.setdefault(p, set()).add(year)
        return {p: frozenset(years) for p, years in found.items()}

    def keep(self, parts: dict[int, int]) -> None:
        """Which part each person belongs to."""
        self._db.executemany("INSERT INTO part VALUES (?, ?)", parts.items())

    def part_of(self, p: int) -> int | None:
        row = self._db.execute("SELECT part FROM part WHERE p = ?", (p,)).fetchone()
        return None if row is None else int(row[0])

    def codes(self) -> Iterator[tuple[str, dict[str, set[int]]]]:
        """path -> code -> up to k people."""
        query = "SELECT code.path, code.code, " + _OF.format("code") + " ORDER BY 1, 2, 3"
        last, groups = "", dict[str, set[int]]()
        with closing(self._db.execute(query)) as rows:
            for path, code, p in rows:
                if path != last and groups:
                    yield last, groups
                    groups = {}
                last = path
                noted(groups.setdefault(code, set()), p, self.k)
        if groups:
            yield last, groups

    def cells(self, shown: Shown) -> frozenset[Cell]:
        """Those that enough people have, of each thing that resources are about."""
        found: dict[str, dict[str, set[int]]] = {}
        query = "SELECT resource.about, resource.years, " + _OF.format("resource")
        for about, years, p in self._db.execute(query):
            named = self._named(shown, p, years)
            if named:
                cells = found.setdefault(shown.about(about), {})
                noted(cells.setdefault(named, set()), p, self.k)
        whole: set[Cell] = set()
        for about, cells in found.items():
            hidden = cells.pop(HIDDEN, set())
            # Where the others go that may show none.
            if len(hidden) >= self.k:
                stay = {years for years, people in cells.items() if len(people) >= self.k}
            else:
                stay = kept({**cells, HIDDEN: hidden} if hidden else cells, self.k)
            whole |= {(about, years) for years in stay}
        return frozenset(whole)

    def _named(self, shown: Shown, p: int, years: str) -> str:
        part = self.part_of(p)
        seen = frozenset[int]() if part is None else shown.parts[part]
        return shown.named(map(int, years.split()), seen)

    def numbers(self, shown: Shown) -> dict[Class, Groups]:
        """The values of each class of numbers, in groups of k people."""
        sizes: dict[tuple[str, str, str, str], dict[Class, set[int]]] = {}
        for class_, _, _, p in self._classed(shown):
            noted(sizes.setdefault(class_[:4], {}).setdefault(class_, set()), p, self.k)
        stay = frozenset[Class]().union(*(kept(groups, self.k) for groups in sizes.values()))
        found: dict[Class, Groups] = {}
        last, growing = None, _Growing(self.k)
        for class_, value, places_, p in self._classed(shown):
            if class_ not in stay:
                continue
            if class_ != last and last is not None:
                found[last] = growing.whole()
            last = class_
            growing.take(value, places_, p)
        if last is not None:
            found[last] = growing.whole()
        return found

    def _classed(self, shown: Shown) -> Iterator[tuple[Class, float, int, int]]:
        """Every number with its class, its places and whose it is, in order."""

        def years_of(p: int, about: str, years: str) -> str:
            seen = shown.parts[part] if (part := self.part_of(p)) is not None else frozenset()
            return shown.cell(about, map(int, years.split()), seen)[1]

        self._db.create_function("about_of", 1, shown.about, deterministic=True)
        self._db.create_function("years_of", 3, years_of, deterministic=True)
        query = (
            "SELECT about_of(resource.about), years_of(coalesce(lent.p, resource.p),"
            " resource.about, resource.years), path, about_of(near), unit, value, places,"
            " coalesce(lent.p, resource.p) FROM number JOIN resource ON resource.r = number.r"
            " LEFT JOIN lent ON lent.target = resource.p ORDER BY 1, 2, 3, 4, 5, 6, 8"
        )
        with closing(self._db.execute(query)) as rows:
            for about, years, path, near, unit, value, places_, p in rows:
                yield (about, years, path, near, unit), value, places_, p


class _Growing:
    """Groups of one class while its values come in order."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._begin()

    def _begin(self) -> None:
        self._made: list[list[tuple[float, int]]] = []
        self._values: list[tuple[float, int]] = []
        self._people: set[int] = set()
        self._groups = Groups()

    def take(self, value: float, places_: int, p: int) -> None:
        if len(self._people) >= self._k and self._values[-1][0] != value:
            self._cut()
        self._values.append((value, places_))
        self._people.add(p)

    def _cut(self) -> None:
        """A group is whole; it is told when the next is, since the last may have to join it."""
        for values in self._made:
            self._add(values)
        self._made = [self._values]
        self._values, self._people = [], set()

    def whole(self) -> Groups:
        if len(self._people) < self._k and self._made:
            self._values = self._made.pop() + self._values
        for values in (*self._made, self._values):
            self._add(values)
        groups = self._groups
        self._begin()
        return groups

    def _add(self, values: list[tuple[float, int]]) -> None:
        mean = sum(value for value, _ in values) / len(values)
        mean = min(max(mean, values[0][0]), values[-1][0])
        self._groups.add(values[0][0], mean, max(places_ for _, places_ in values))
