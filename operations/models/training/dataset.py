"""The rows that a model is made of: plain numbers, apart from any store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Part: TypeAlias = Literal["train", "test"]

AGES: Final = ((0, 39), (40, 64), (65, 74), (75, 130))
"""Subgroups, both years included."""


class Followed(NamedTuple):
    """``days`` until the event, or until nobody looked any more."""

    days: float
    event: bool


class Line(NamedTuple):
    """One patient at one moment. ``values``: as the graph takes them, in order of the features;
    ``age``: completed years, -1 if not known; ``rival``: what the baseline says, None: nothing;
    ``weight``: how many people it stands for, itself and those like it who left early (0: it left
    itself, so that nothing is known of its outcome); ``followed``: of a cohort with times.
    """

    patient: str
    at: str
    part: Part
    values: tuple[float, ...]
    happened: bool
    sex: str
    age: int
    rival: float | None = None
    weight: float = 1.0
    followed: Followed | None = None


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
        rows = [_told(line) for line in sorted(self.lines, key=lambda one: one[:2])]
        text = json.dumps([list(self.features), rows], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def part(self, part: Part) -> list[Line]:
        """In order of patient and moment."""
        return sorted((line for line in self.lines if line.part == part), key=lambda one: one[:2])


def _told(line: Line) -> list[Any]:
    """Without the baseline; with weight and time only where there are any."""
    about: list[Any] = list(line[:7])
    if line.weight != 1 or line.followed is not None:
        about += [line.weight, list(line.followed or ())]
    return about


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
