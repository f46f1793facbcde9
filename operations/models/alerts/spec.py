"""What to evaluate: the decoded form of a specification in TOML.

Hours and minutes are whole numbers. ``time`` of an outcome is FHIRPath on each resource of its
type; the dateTimes that it gives are when the outcome was.
"""

from __future__ import annotations

import tomllib
from typing import Final, get_args

import msgspec

from fhir_server.fhirpath import FhirPathError, compile
from fhir_server.model.problem import Unprocessable

from ..training.spec import LARGEST
from .types import Readable

RESOURCES: Final = frozenset(get_args(Readable))


class Stays(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Encounters of these ``classes`` (v3 ActCode)."""

    classes: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be warned of; the first of all outcomes ends a stay."""

    name: str
    title: str
    resource: Readable
    time: str


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It sounds where the highest of ``outputs`` of a model reaches a threshold."""

    title: str
    model: str
    outputs: tuple[str, ...]
    thresholds: tuple[float, ...]


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``horizon``: hours before an outcome in which an alert counts as a warning of it.
    ``refractory``: hours after an alert in which the same alarm is silent. ``quiet``: minutes; of
    values that follow each other closer than that the last is the moment (as
    ``VEHR_AUTO_PREDICT_SECONDS`` waits)."""

    title: str
    horizon: int
    refractory: int
    stay: Stays
    outcome: tuple[Outcome, ...]
    alarm: tuple[Alarm, ...]
    quiet: int = 0


def read_spec(text: str) -> Spec:
    """Raises Unprocessable, which says what is wrong."""
    if len(text) > LARGEST:
        raise Unprocessable(f"the specification is longer than {LARGEST} characters")
    try:
        spec = msgspec.convert(tomllib.loads(text), Spec)
        _check(spec)
    except (ValueError, RecursionError, msgspec.ValidationError, FhirPathError) as error:
        raise Unprocessable(f"the specification: {error}") from error
    return spec


def _check(spec: Spec) -> None:
    """Raises ValueError, FhirPathError."""
    if spec.horizon < 1 or spec.refractory < 0 or spec.quiet < 0:
        raise ValueError("horizon is at least 1, refractory and quiet at least 0")
    for what, listed in (("outcome", spec.outcome), ("alarm", spec.alarm)):
        if not listed:
            raise ValueError(f"it names no {what}")
    for outcome in spec.outcome:
        compile(outcome.time)
    for alarm in spec.alarm:
        if not alarm.outputs or not alarm.thresholds:
            raise ValueError(f"alarm {alarm.title!r}: it needs outputs and thresholds")
