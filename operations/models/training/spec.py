"""What to train: the decoded form of a specification in TOML (``spec.schema.json``).

Dates are ISO 8601 days and stand for their first moment in UTC, durations ISO 8601.
"""

from __future__ import annotations

import json
import tomllib
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import jsonschema
import msgspec

from fhir_server.model.problem import Unprocessable

LARGEST: Final = 1024 * 1024
"""Bytes of a specification."""


class Index(msgspec.Struct, frozen=True):
    """From when a row looks back for features and ahead for the outcome. ``dates``: these days;
    ``encounters``: the starts of the patient's, of these ``classes`` (v3 ActCode) if any."""

    rule: Literal["dates", "encounters"]
    dates: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    which: Literal["first", "last", "every"] = "first"


class Target(msgspec.Struct, frozen=True):
    """A Condition of ``concept`` that begins ``within`` a duration. ``incident``: whoever had it
    before is left out. ``observed_until``: up to when the record is complete; rows whose time is
    not over by then are left out. ``death``: what dying without it within that time counts as.
    """

    name: str
    title: str
    concept: str
    within: str
    observed_until: str = ""
    incident: bool = True
    death: Literal["no-event", "event", "leave-out"] = "no-event"


class Split(msgspec.Struct, frozen=True):
    """Rows whose time is over at ``at`` train; those that begin then or later test."""

    at: str


class Cohort(msgspec.Struct, frozen=True):
    """Rows that come from a public cohort instead of the record. ``table``: which one; ``event``:
    its name of the outcome; ``split``: the rule that parts training from test, in words."""

    table: str
    event: str
    split: str


class Pipeline(msgspec.Struct, frozen=True):
    """``c``: inverse strength of the L2 penalty, of "logistic"; ``trees``, ``depth`` and ``rate``
    of "boosted". What the sums of the other kinds are of, besides the features: ``log1p``: of a
    feature its log(1 + x) instead; ``above``: 1 for each of these bounds that it is above,
    instead; ``hinge``: also by how much it is above a bound."""

    kind: Literal["logistic", "boosted", "cox"]
    c: float = 1.0
    log1p: tuple[str, ...] = ()
    above: dict[str, tuple[float, ...]] = {}
    hinge: dict[str, float] = {}
    trees: int = 100
    depth: int = 2
    rate: float = 0.05


class Baseline(msgspec.Struct, frozen=True):
    """A model of the registry (``name`` or ``name|version``), or in words one of a cohort, to which
    the AUROC (or Harrell's C) must not be inferior by more than ``margin``, by paired bootstrap.
    ``looks``: how many candidates have been judged by the same rows of the test, this one too;
    the interval is of 95 % for all of them together (Bonferroni)."""

    model: str
    output: str
    margin: float
    measure: Literal["auroc", "concordance"] = "auroc"
    looks: int = 1


class Gate(msgspec.Struct, frozen=True):
    """What the rows of the test must show before the model may answer. ``auroc_low``: the lower
    bound of its 95 % interval; ``brier_skill``: 1 - Brier / Brier of the prevalence; ``slope``
    and ``intercept`` of calibration within bounds; ``events`` at least; ``samples`` of the
    bootstrap."""

    auroc: float
    auroc_low: float = 0.5
    brier_skill: float = 0.0
    slope: tuple[float, float] = (0.7, 1.3)
    intercept: tuple[float, float] = (-0.5, 0.5)
    events: int = 20
    samples: int = 500
    baseline: Baseline | None = None


class Spec(msgspec.Struct, frozen=True):
    """``features``: as in ``features.toml``, without outputs; ``data``: the SHA-256 of the data set
    that it must be, to make a model again; ``data_years``: its first and last year. ``index`` and
    ``split`` are of rows from the record."""

    name: str
    version: str
    title: str
    intended_use: str
    population: str
    licence: str
    limits: tuple[str, ...]
    seed: int
    features: dict[str, Any]
    outcome: Target
    pipeline: Pipeline
    gate: Gate
    index: Index = Index("dates")
    split: Split = Split("")
    cohort: Cohort | None = None
    data: str = ""
    data_years: tuple[int, int] | None = None


def read_spec(text: str) -> Spec:
    """Raises Unprocessable, which says what is wrong."""
    if len(text) > LARGEST:
        raise Unprocessable(f"the specification is longer than {LARGEST} characters")
    try:
        data = tomllib.loads(text, parse_float=Decimal)
        _validator().validate(data)
        spec = msgspec.convert(data, Spec)
        _check(spec)
    except jsonschema.ValidationError as error:
        raise Unprocessable(f"the specification: {error.json_path}: {error.message}") from error
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise Unprocessable(f"the specification: {error}") from error
    return spec


def _check(spec: Spec) -> None:
    """Days are days, columns those of features. Raises ValueError."""
    known = {feature.get("name") for feature in spec.features["feature"]}
    unknown = {*spec.pipeline.log1p, *spec.pipeline.above, *spec.pipeline.hinge} - known
    if unknown:
        raise ValueError(f"pipeline: no such feature: {', '.join(sorted(unknown))}")
    if spec.cohort is not None:
        return
    days = (*spec.index.dates, spec.outcome.observed_until, spec.split.at)
    for day in days:
        date.fromisoformat(day)
    if spec.split.at >= spec.outcome.observed_until:
        raise ValueError("split.at is not before outcome.observed_until: nothing is left to test")


@cache
def _validator() -> Any:
    schema = resources.files(__package__).joinpath("spec.schema.json")
    return jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
