"""The typed form of ``card.toml``, ``features.toml``, ``golden.json`` and ``concepts.toml``.

The JSON Schemas beside this file say what a manifest may hold; these classes carry it.
Units are UCUM, durations ISO 8601, probabilities 0 to 1.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

CodePair: TypeAlias = tuple[str, str]
"""System and code."""

Bounds: TypeAlias = tuple[Decimal, Decimal]
"""Lowest and highest allowed value, both included."""


class Concept(msgspec.Struct, frozen=True):
    """A named value list. ``prefixes`` are for hierarchical codes (ICD-10, ATC, ICPC-2);
    ``names`` are whole lower-case words of a display or text."""

    title: str
    codes: tuple[CodePair, ...] = ()
    prefixes: tuple[CodePair, ...] = ()
    names: tuple[str, ...] = ()


class Molar(msgspec.Struct, frozen=True):
    """Between mass and amount of one analyte: ``mole`` = ``mass`` * ``factor``."""

    mass: str
    mole: str
    factor: Decimal


class Derive(msgspec.Struct, frozen=True):
    """The value is the exact output of another model where the record has none."""

    model: str
    output: str


class Feature(msgspec.Struct, frozen=True):
    """One input of a graph and where it comes from.

    ``absent``: the value when the record shows nothing (an assumption that is reported);
    None: required. ``plausible``: outside it the value is taken for an error;
    ``population``: outside it the model does not apply. ``inexact``: codes whose values are
    used with ``caution``.
    """

    name: str
    title: str
    kind: Literal["age", "choice", "quantity", "answer", "condition", "medication"]
    unit: str = ""
    codes: tuple[CodePair, ...] = ()
    inexact: tuple[CodePair, ...] = ()
    lookback: str = ""
    aggregate: Literal["newest", "mean", "min", "max", "count"] = "newest"
    plausible: Bounds | None = None
    population: Bounds | None = None
    molar: Molar | None = None
    derive: Derive | None = None
    path: str = ""
    choices: dict[str, int] = {}
    concepts: dict[str, str] = {}
    caution: str = ""
    yes: str = ""
    no: str = ""
    concept: str = ""
    when: Literal["ever", "current"] = "current"
    absent: bool | Decimal | None = None

    @property
    def boolean(self) -> bool:
        return self.kind in ("answer", "condition", "medication")


class Exclusion(msgspec.Struct, frozen=True):
    """Whoever has a Condition of ``concept`` is outside the population."""

    concept: str
    reason: str
    when: Literal["ever", "current"] = "ever"


class Coding(msgspec.Struct, frozen=True):
    system: str
    code: str
    display: str


class Output(msgspec.Struct, frozen=True):
    """One output of a graph. ``years``: horizon; ``ages``: only for these ages."""

    name: str
    title: str
    coding: Coding | None = None
    years: int | None = None
    unit: str = ""
    ages: tuple[int, int] | None = None


class Features(msgspec.Struct, frozen=True):
    feature: tuple[Feature, ...]
    output: tuple[Output, ...]
    exclusion: tuple[Exclusion, ...] = ()


class Level(msgspec.Struct, frozen=True):
    """A category for values under ``below``; the last level has none."""

    text: str
    below: Decimal | None = None


class Band(msgspec.Struct, frozen=True):
    output: str
    levels: tuple[Level, ...]
    ages: tuple[int, int] | None = None


class Source(msgspec.Struct, frozen=True):
    citation: str
    url: str


class Metric(msgspec.Struct, frozen=True):
    name: str
    value: str
    source: str


class Card(msgspec.Struct, frozen=True):
    """The model card: what the model is for, for whom, how good, and its limits."""

    name: str
    version: str
    title: str
    result: Literal["RiskAssessment", "Observation"]
    intended_use: str
    population: str
    training_data: str
    licence: str
    limits: tuple[str, ...]
    source: Source
    metric: tuple[Metric, ...]
    aliases: tuple[str, ...] = ()
    band: tuple[Band, ...] = ()


class Golden(msgspec.Struct, frozen=True):
    """One test vector: inputs by feature name, expected outputs within ``tolerance``."""

    inputs: dict[str, bool | str | float]
    expected: dict[str, float]
    tolerance: float
    kind: str
    source: str
