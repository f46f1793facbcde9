"""The typed form of ``card.toml``, ``features.toml``, ``golden.json`` and ``concepts.toml``.

The JSON Schemas beside this file say what a manifest may hold; these classes carry it.
Units are UCUM, durations ISO 8601, probabilities 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import msgspec

from .casing import CodePair, comparable

Bounds: TypeAlias = tuple[Decimal, Decimal]
"""Lowest and highest allowed value, both included."""


ICD_10: Final = (
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "eHealth/ICD10_AM/condition_codes",
)
"""The classifications that share the first characters of ICD-10."""


class Concept(msgspec.Struct, frozen=True, dict=True):
    """A named value list. ``prefixes`` are for hierarchical codes (ATC, ICPC-2), ``icd10`` for
    those of every ICD-10; ``names`` are whole lower-case words of a display or text."""

    title: str
    codes: tuple[CodePair, ...] = ()
    prefixes: tuple[CodePair, ...] = ()
    icd10: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @cached_property
    def by_system(self) -> Mapping[str, tuple[frozenset[str], tuple[str, ...]]]:
        """Whole codes and beginnings of codes of each system, comparable."""
        begun = (*self.prefixes, *((system, code) for system in ICD_10 for code in self.icd10))
        return {
            system: (
                frozenset(comparable(pair)[1] for pair in self.codes if pair[0] == system),
                tuple(comparable(pair)[1] for pair in begun if pair[0] == system),
            )
            for system in {s for s, _ in (*self.codes, *begun)}
        }

    def includes(self, system: str, code: str) -> bool:
        if system not in self.by_system:
            return False
        whole, begun = self.by_system[system]
        _, code = comparable((system, code))
        return code in whole or code.startswith(begun)


class Molar(msgspec.Struct, frozen=True):
    """Between mass and amount of one analyte: ``mole`` = ``mass`` * ``factor``."""

    mass: str
    mole: str
    factor: Decimal


class Derive(msgspec.Struct, frozen=True):
    """The value is the exact output of another model where the record has none."""

    model: str
    output: str


class Compute(msgspec.Struct, frozen=True):
    """The value is computed from ``part`` features by FHIRPath where the record has none; a part
    is written ``%name`` and stands for its number in its own unit, or its boolean."""

    expression: str
    part: tuple[Feature, ...]


class Feature(msgspec.Struct, frozen=True, dict=True):
    """One input of a graph and where it comes from.

    ``absent``: the value when the record shows nothing (an assumption that is reported);
    None: required. ``plausible``: outside it the value is taken for an error;
    ``population``: outside it the model does not apply. ``inexact``: codes whose values are
    used with ``caution``. ``above``: a recorded quantity over it means yes. ``yes``, ``no``: the
    value lists of answers; of a condition with ``codes`` the answers that say as much.
    ``otherwise``: the choice for whatever no list names, and where nothing is recorded of a coded
    choice.
    ``resource``, ``expression``: of the kind "fhirpath", whose value is a number where it has a
    ``unit``, a choice where it has ``choices``, else a boolean. ``outside``: what one outside of
    ``population`` does. ``reference``: the value that contributions are measured against; without
    it the feature is a given. Features of one ``group`` contribute together. ``least``: how many
    values a slope takes; with fewer there is none.
    """

    name: str
    title: str
    kind: Literal["age", "choice", "quantity", "answer", "condition", "medication", "fhirpath"]
    unit: str = ""
    codes: tuple[CodePair, ...] = ()
    inexact: tuple[CodePair, ...] = ()
    lookback: str = ""
    aggregate: Literal["newest", "mean", "min", "max", "slope", "count"] = "newest"
    least: int = 2
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
    above: Decimal | None = None
    otherwise: str = ""
    resource: str = ""
    expression: str = ""
    compute: Compute | None = None
    outside: Literal["refuse", "warn"] = "refuse"
    reference: Any = None
    group: str = ""

    @cached_property
    def pairs(self) -> tuple[CodePair, ...]:
        """The codes, comparable, each once."""
        return tuple(dict.fromkeys(map(comparable, self.codes)))

    @property
    def boolean(self) -> bool:
        if self.kind == "fhirpath":
            return not (self.unit or self.choices or self.aggregate == "count")
        return self.kind in ("answer", "condition", "medication")

    @property
    def told_unit(self) -> str:
        """The unit of the value: that of a slope is per day, a count has none."""
        if self.aggregate == "count":
            return "1"
        return f"{self.unit}/d" if self.aggregate == "slope" else self.unit


def every(features: Iterable[Feature]) -> Iterator[Feature]:
    """The features, each followed by the parts that it is computed from."""
    for feature in features:
        yield feature
        if feature.compute is not None:
            yield from every(feature.compute.part)


class Exclusion(msgspec.Struct, frozen=True):
    """Whoever has a Condition of ``concept`` is outside the population."""

    concept: str
    reason: str
    when: Literal["ever", "current"] = "ever"


class Indication(msgspec.Struct, frozen=True):
    """Who has no Condition of ``concept`` gets a result only where the model is asked for by
    name, and with ``reason`` as a caution."""

    concept: str
    reason: str
    when: Literal["ever", "current"] = "ever"


class Coding(msgspec.Struct, frozen=True):
    system: str
    code: str
    display: str


class Attribution(msgspec.Struct, frozen=True):
    """How an output is told apart by features. On ``scale`` a "linear" or "points" output is the
    sum of what its features (or groups of them) add, given those without a reference; of
    "occlusion" that is not claimed."""

    method: Literal["points", "linear", "occlusion"]
    scale: Literal["identity", "log", "logit", "cloglog"] = "identity"


class Output(msgspec.Struct, frozen=True):
    """One output of a graph. ``years``: horizon; ``ages``: only for these ages.

    Of an Observation the first output is the value, the others are components. ``decimals``:
    how many the value is given and judged with; None: with two, and judged as a whole number,
    which goes along.
    """

    name: str
    title: str
    coding: Coding | None = None
    years: int | None = None
    unit: str = ""
    ages: tuple[int, int] | None = None
    decimals: int | None = None
    category: Literal["laboratory", "survey"] = "laboratory"
    attribution: Attribution | None = None


class Population(msgspec.Struct, frozen=True):
    """Whom the model is for, whether or not its graph reads age and sex. ``sexes``: codes of
    administrative gender."""

    ages: tuple[int, int] | None = None
    sexes: tuple[str, ...] = ()


class Features(msgspec.Struct, frozen=True):
    feature: tuple[Feature, ...]
    output: tuple[Output, ...]
    exclusion: tuple[Exclusion, ...] = ()
    indication: tuple[Indication, ...] = ()
    concept: dict[str, Concept] = {}
    population: Population | None = None


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


class Outcome(msgspec.Struct, frozen=True):
    """What the future says of an output: a Condition of ``concept`` that begins ``within`` a
    duration (ISO 8601) after the prediction, or none by then."""

    output: str
    concept: str
    within: str


class Alert(msgspec.Struct, frozen=True):
    """Somebody is told when ``output`` is ``at`` or over: by a draft RiskAssessment and a Flag. Not
    again within ``refractory`` hours, unless the output has risen."""

    output: str
    at: Decimal
    refractory: int


class Thresholds(msgspec.Struct, frozen=True):
    """Beyond which a version raises a Flag: ``psi``, ``ks`` of drift, ``missing`` and ``errors`` as
    shares, ``agreement`` at least; ``least``: uses that it takes to judge; ``days``: looked back.
    """

    psi: float = 0.2
    ks: float = 0.15
    missing: float = 0.5
    errors: float = 0.05
    agreement: float = 0.5
    least: int = 100
    days: int = 30


class Tags(msgspec.Struct, frozen=True):
    """Of a model of free text: from which probability on a word is taken for a name, a place, and
    which form of rows (``deid/text/tagging/features.py``) it reads."""

    name: float
    place: float
    rows: int


class Card(msgspec.Struct, frozen=True):
    """The model card: what the model is for, for whom, how good, and its limits. ``data_years``:
    first and last year of the data that a model was trained on. A "Tagging" finds names in free
    text: it answers no ``$predict``, and has ``tags``."""

    name: str
    version: str
    title: str
    result: Literal["RiskAssessment", "Observation", "Tagging"]
    intended_use: str
    population: str
    training_data: str
    licence: str
    limits: tuple[str, ...]
    source: Source
    metric: tuple[Metric, ...]
    aliases: tuple[str, ...] = ()
    band: tuple[Band, ...] = ()
    outcome: tuple[Outcome, ...] = ()
    alert: Alert | None = None
    monitoring: Thresholds = Thresholds()
    data_years: tuple[int, int] | None = None
    tags: Tags | None = None


class GoldenText(msgspec.Struct, frozen=True):
    """What a model of free text must answer to ``text``: probabilities of names, one per token."""

    text: str
    names: tuple[float, ...]
    tolerance: float


class Golden(msgspec.Struct, frozen=True):
    """One test vector: inputs by feature name, expected outputs within ``tolerance``."""

    inputs: dict[str, bool | str | float]
    expected: dict[str, float]
    tolerance: float
    kind: str
    source: str
