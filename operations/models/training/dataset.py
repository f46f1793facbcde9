"""The rows that a model is made of: plain numbers, apart from any store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

Part: TypeAlias = Literal["train", "test"]

AGES: Final = ((0, 39), (40, 64), (65, 74), (75, 130))
"""Subgroups, both years included."""


class Line(NamedTuple):
    """One patient at one moment. ``values``: as the graph takes them, in order of the features;
    ``age``: completed years, -1 if not known; ``rival``: what the baseline says, None: nothing."""

    patient: str
    at: str
    part: Part
    values: tuple[float, ...]
    happened: bool
    sex: str
    age: int
    rival: float | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """``features``: names, in order; ``left_out``: how many rows for which reason; ``position``: of
    the change feed up to which the record was read."""

    features: tuple[str, ...]
    lines: tuple[Line, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    position: int = 0

    @property
    def sha256(self) -> str:
        """Of everything that is learnt from and judged by, whatever the order of reading."""
        rows = [list(line[:-1]) for line in sorted(self.lines, key=lambda one: one[:2])]
        text = json.dumps([list(self.features), rows], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def part(self, part: Part) -> list[Line]:
        """In order of patient and moment."""
        return sorted((line for line in self.lines if line.part == part), key=lambda one: one[:2])


def apart(lines: Iterable[Line]) -> tuple[list[Line], int]:
    """Without the rows of the test whose patient trains too; how many those are."""
    rows = list(lines)
    training = {line.patient for line in rows if line.part == "train"}
    kept = [line for line in rows if line.part == "train" or line.patient not in training]
    return kept, len(rows) - len(kept)


def subgroups(lines: Sequence[Line]) -> dict[str, list[int]]:
    """Places of the rows by sex and by age."""
    found: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        found.setdefault(f"sex {line.sex or 'unknown'}", []).append(place)
        band = next((f"age {a}-{b}" for a, b in AGES if a <= line.age <= b), "age unknown")
        found.setdefault(band, []).append(place)
    return dict(sorted(found.items()))
