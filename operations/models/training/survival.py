"""Outcomes that are not seen to their end: who left early, and risks from times to the event.

Those who left before the horizon say nothing of it. The others stand for them: everyone's weight
is one over the chance, by Kaplan and Meier, of not having left before the event or the horizon
(inverse probability of censoring; Uno and others, doi:10.1198/016214507000000149). Proportional
hazards: Cox's partial likelihood and Breslow's baseline hazard, ties by Breslow. Days throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .dataset import Line
from .evaluation import Numbers, Vector

DAYS: Final = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}
"""Of the units of a duration such as P5Y."""


def horizon(within: str) -> float:
    return int(within[1:-1]) * DAYS[within[-1]]


def weights(days: Vector, left: Vector) -> Vector:
    """By which each stands for others; 0: left. ``days``: up to the event, leaving or the horizon;
    ``left``: 0 or 1. Who leaves on the day of an event leaves after it."""
    return np.where(left > 0, 0.0, 1 / stays_before(days, left))


def stays_before(days: Vector, left: Vector) -> Vector:
    """For each the chance, by Kaplan and Meier, of not having left before its ``days``."""
    moments, inverse = np.unique(days, return_inverse=True)
    leaving = np.bincount(inverse, left, len(moments))
    others = np.bincount(inverse, 1 - left, len(moments))
    there = np.cumsum((leaving + others)[::-1])[::-1] - others
    chance = np.cumprod(1 - np.divide(leaving, there, out=np.zeros_like(there), where=there > 0))
    found: Vector = np.concatenate([[1.0], chance[:-1]])[inverse]
    return found


@dataclass(slots=True)
class ProportionalHazards:
    """Fitted by Newton's method; ``hazard``: cumulative, up to ``until``, of a score of 0."""

    until: float
    coef: Vector = field(default_factory=lambda: np.zeros(0))
    hazard: float = 0.0

    def fit(self, values: Vector, days: Vector, event: Vector) -> ProportionalHazards:
        """``values``: [rows, columns]. Nobody is followed beyond ``until``, so that hazards need
        be proportional no longer. The same for the same rows in the same order."""
        event, days = event * (days <= self.until), np.minimum(days, self.until)
        centre, spread = values.mean(axis=0), values.std(axis=0)
        order = np.argsort(-days, kind="stable")
        table, time, real = (values[order] - centre) / spread, days[order], event[order]
        # The last place, in order of falling time, of those who are there at a time.
        last = np.searchsorted(-time, -time, side="right") - 1
        weight = np.zeros(values.shape[1])
        for _ in range(50):
            slope, curve = _partial(table, real, last, weight)
            step = np.linalg.solve(curve, slope)
            weight = weight + step
            if float(np.abs(step).max()) < 1e-10:
                break
        self.coef = weight / spread
        there = np.cumsum(np.exp(table @ weight))[last]
        self.hazard = float((1 / there[real > 0]).sum() * np.exp(-(self.coef @ centre)))
        return self

    def score(self, values: Vector) -> Vector:
        """Logarithm of the hazard ratio to a row of zeros."""
        found: Vector = values @ self.coef
        return found

    def predict_proba(self, values: Vector) -> Vector:
        """As of scikit-learn: [rows, 2], without and with the event by ``until``."""
        free = np.exp(-self.hazard * np.exp(self.score(values)))
        return np.column_stack([free, 1 - free])


def _partial(
    table: Vector, real: Vector, last: NDArray[np.int64], weight: Vector
) -> tuple[Vector, Vector]:
    """Slope and curvature of the logarithm of the partial likelihood."""
    ratio = np.exp(table @ weight)
    total = np.cumsum(ratio)[last][:, None]
    mean = np.cumsum(table * ratio[:, None], axis=0)[last] / total
    square = table[:, :, None] * table[:, None, :] * ratio[:, None, None]
    second = np.cumsum(square, axis=0)[last] / total[:, :, None]
    slope = (real[:, None] * (table - mean)).sum(axis=0)
    spread = second - mean[:, :, None] * mean[:, None, :]
    return slope, (real[:, None, None] * spread).sum(axis=0)


def judged_by_times(lines: Sequence[Line], score: Vector, samples: int, seed: int) -> Numbers:
    """Harrell's C of rows with times, with its interval; {} where there are none. ``score``: of
    each, more of it for more risk."""
    if any(line.followed is None for line in lines):
        return {}
    pairs, drawn = _drawn(lines, samples, seed)
    order = pairs.order(score)
    found = [pairs.concordance(order, times) for times in drawn]
    low, high = np.percentile(found, [2.5, 97.5])
    value = pairs.concordance(order, np.ones(len(lines)))
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def compared_by_times(
    lines: Sequence[Line], score: Vector, margin: float, samples: int, seed: int, looks: int
) -> Numbers:
    """As ``evaluation.compare``, of Harrell's C; the rival's scores are those of the lines."""
    pairs, drawn = _drawn(lines, samples, seed)
    rival = np.array([line.rival for line in lines], dtype=np.float64)
    ours, theirs = pairs.order(score), pairs.order(rival)
    gain = ours - theirs
    spread = [pairs.concordance(gain, times) for times in drawn]
    low, high = np.percentile(spread, [2.5 / looks, 100 - 2.5 / looks])
    once = np.ones(len(lines))
    return {
        "rows": len(lines),
        "concordance": round(pairs.concordance(ours, once), 4),
        "rival_concordance": round(pairs.concordance(theirs, once), 4),
        "difference": round(pairs.concordance(gain, once), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "margin": margin,
        "looks": looks,
        "not_inferior": bool(low > -margin),
    }


def _drawn(lines: Sequence[Line], samples: int, seed: int) -> tuple[Pairs, list[Vector]]:
    """How often each row is drawn, one row per patient."""
    followed = [line.followed for line in lines if line.followed is not None]
    days = np.array([one.days for one in followed], dtype=np.float64)
    event = np.array([one.event for one in followed], dtype=np.float64)
    random, count = np.random.default_rng(seed), len(lines)
    drawn = [
        np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
        for _ in range(samples)
    ]
    return Pairs.of(days, event), drawn


@dataclass(frozen=True, slots=True)
class Pairs:
    """Whom one can tell apart: the first had the event while the other was still followed."""

    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, days: Vector, event: Vector) -> Pairs:
        """Of equal days only where one had the event and the other was left without."""
        earlier = days[:, None] < days[None, :]
        same = (days[:, None] == days[None, :]) & (event[None, :] == 0)
        return cls((event[:, None] > 0) & (earlier | same))

    def order(self, score: Vector) -> Vector:
        """[rows, rows]: 1 where a usable pair is in order of the score, half where it is equal."""
        right = (score[:, None] > score[None, :]) + 0.5 * (score[:, None] == score[None, :])
        return np.where(self.usable, right, 0.0)

    def concordance(self, order: Vector, times: Vector) -> float:
        """Harrell's C. ``times``: how often each row is drawn."""
        pairs = float(times @ self.usable @ times)
        return float(times @ order @ times) / pairs if pairs else 0.5


def concordance(days: Vector, event: Vector, score: Vector) -> float:
    """Harrell's C: the share of usable pairs in which who had the event first has more risk."""
    pairs = Pairs.of(days, event)
    return pairs.concordance(pairs.order(score), np.ones_like(days))
