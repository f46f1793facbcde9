"""The two acts of the walk: to note what a resource gives away, and to show what it may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fhir_server.model.exchange import Json

from .shown import HIDDEN, Cell, Shown
from .walk import Number, key_of

MOST: Final = 10**15
"""Numbers from here on are hidden."""


def year_of(value: str) -> int | None:
    """Of a date or dateTime."""
    year = value[:4]
    return int(year) if len(year) == 4 and year.isascii() and year.isdigit() else None


@dataclass(slots=True)
class Noting:
    """What one resource says. ``codes``: (path, system|code); ``numbers``: (path, near, unit,
    value)."""

    years: set[int] = field(default_factory=set)
    codes: set[tuple[str, str]] = field(default_factory=set)
    numbers: list[tuple[str, str, str, Number]] = field(default_factory=list)

    def date(self, value: str) -> str | None:
        year = year_of(value)
        if year is not None:
            self.years.add(year)
        return value

    def moment(self, value: str) -> str | None:
        return value

    def coding(self, path: str, coding: Json) -> Json | None:
        if "code" in coding:
            self.codes.add((path, key_of(coding)))
        return coding

    def number(self, path: str, near: str, unit: str, value: Number) -> Number | None:
        if measurable(value):
            self.numbers.append((path, near, unit, value))
        return value

    def series(self, value: Json) -> Json:
        return value

    def reference(self, value: Json) -> Json | None:
        return value


def measurable(value: Number) -> bool:
    """Can it be put in order with others without loss?"""
    return -MOST < value < MOST


@dataclass(slots=True)
class Showing:
    """One resource as it may be shown. ``years``: that may be seen of its patient; ``cell``: what
    it is about, and its dates as they may be seen."""

    by: Shown
    years: frozenset[int]
    cell: Cell

    def date(self, value: str) -> str | None:
        if not self.by.declared.dates:
            return value
        year = year_of(value)
        hidden = year not in self.years or self.cell[1] == HIDDEN
        return None if year is None or hidden else value[:4]

    def moment(self, value: str) -> str | None:
        return None if self.by.declared.dates else value

    def coding(self, path: str, coding: Json) -> Json | None:
        if not self.by.declared.codes or "code" not in coding:
            return coding
        key = key_of(coding)
        found = self.by.codes.get((path, key))
        if found is None or found == key:
            return None if found is None else coding
        system, _, code = found.rpartition("|")
        return {"system": system, "code": code}

    def number(self, path: str, near: str, unit: str, value: Number) -> Number | None:
        if not self.by.declared.values:
            return value
        groups = self.by.numbers.get((*self.cell, path, self.by.about(near), unit))
        return groups.of(value) if groups is not None and measurable(value) else None

    def series(self, value: Json) -> Json:
        if not self.by.declared.values:
            return value
        return {name: part for name, part in value.items() if name != "data"}

    def reference(self, value: Json) -> Json | None:
        return value
