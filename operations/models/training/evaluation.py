"""How good probabilities are: discrimination, calibration, and how sure that is.

AUROC: the share of pairs with and without the event that are in order (ties half). Calibration
slope and intercept: of the logistic regression of the event on the logit; the intercept with the
slope held at 1 (calibration in the large). Intervals are 95 % percentiles of a bootstrap over
patients, so that several rows of one stay together. Brier skill: 1 - Brier / p(1 - p).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = dict[str, Any]

FEWEST: Final = 5
"""Events, and rows without one, below which a group is not judged."""
EDGE: Final = 1e-6
TENTHS: Final = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Probabilities with what happened; ``who``: a number for each patient."""

    happened: Vector
    probability: Vector
    who: NDArray[np.int64]

    @classmethod
    def of(
        cls, happened: Sequence[bool], probability: Sequence[float], patients: Sequence[str]
    ) -> Judged:
        _, who = np.unique(np.array(patients, dtype=str), return_inverse=True)
        return cls(np.array(happened, float), np.array(probability, float), who.astype(np.int64))

    def at(self, places: Sequence[int] | NDArray[np.int64]) -> Judged:
        chosen = np.asarray(places, dtype=np.int64)
        return Judged(self.happened[chosen], self.probability[chosen], self.who[chosen])


def auroc(happened: Vector, score: Vector) -> float:
    """0.5 where only one kind is there."""
    positive = int(happened.sum())
    negative = len(happened) - positive
    if not positive or not negative:
        return 0.5
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[inverse][happened > 0].sum())
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def brier(happened: Vector, probability: Vector) -> float:
    return float(np.mean((probability - happened) ** 2))


def skill(happened: Vector, probability: Vector) -> float:
    rate = float(happened.mean())
    return 1 - brier(happened, probability) / (rate * (1 - rate)) if 0 < rate < 1 else 0.0


def logit(probability: Vector) -> Vector:
    """Of probabilities, those at the ends moved in a little."""
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)


def calibration(happened: Vector, probability: Vector) -> tuple[float, float]:
    """Slope, and intercept at a slope of 1."""
    score = logit(probability)
    slope = _newton(np.column_stack([np.ones_like(score), score]), happened, np.zeros_like(score))
    large = _newton(np.ones((len(score), 1)), happened, score)
    return float(slope[1]), float(large[0])


def _newton(design: Vector, happened: Vector, offset: Vector) -> Vector:
    """Logistic regression by maximum likelihood, a little ridge against separation."""
    weights = np.zeros(design.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights + offset, -30, 30)))
        slope = design.T @ (happened - chance) - 1e-6 * weights
        curve = design.T @ (design * (chance * (1 - chance))[:, None])
        step = np.linalg.solve(curve + 1e-6 * np.eye(len(weights)), slope)
        weights = weights + np.clip(step, -5, 5)
        if float(np.abs(step).max()) < 1e-9:
            break
    return weights


MEASURES: Final[dict[str, Callable[[Vector, Vector], float]]] = {
    "auroc": auroc,
    "brier": brier,
    "brier_skill": skill,
    "slope": lambda happened, probability: calibration(happened, probability)[0],
    "intercept": lambda happened, probability: calibration(happened, probability)[1],
}


def resamples(judged: Judged, samples: int, seed: int) -> list[NDArray[np.int64]]:
    """Places of the rows of patients drawn with replacement, the same for the same seed."""
    order = np.argsort(judged.who, kind="stable")
    count = int(judged.who.max()) + 1 if len(judged.who) else 0
    starts = np.searchsorted(judged.who[order], np.arange(count + 1))
    rows = [order[starts[i] : starts[i + 1]] for i in range(count)]
    random = np.random.default_rng(seed)
    drawn = (random.integers(0, count, count) for _ in range(samples))
    return [np.concatenate([rows[i] for i in some]) for some in drawn]


def judge(judged: Judged, samples: int, seed: int) -> Numbers:
    """Every measure with its interval, and observed against expected by tenths of risk."""
    happened, probability = judged.happened, judged.probability
    events = int(happened.sum())
    told: Numbers = {
        "rows": len(happened),
        "patients": len(np.unique(judged.who)),
        "events": events,
        "rate": _short(float(happened.mean())) if len(happened) else None,
    }
    if min(events, len(happened) - events) < FEWEST:
        return told | {"note": f"fewer than {FEWEST} rows with or without the event: not judged"}
    places = resamples(judged, samples, seed)
    for name, measure in MEASURES.items():
        drawn = [
            measure(happened[some], probability[some])
            for some in places
            if 0 < happened[some].sum() < len(some)
        ]
        low, high = np.percentile(drawn, [2.5, 97.5])
        value = measure(happened, probability)
        told[name] = {"value": _short(value), "low": _short(low), "high": _short(high)}
    return told | {"tenths": tenths(happened, probability)}


def tenths(happened: Vector, probability: Vector) -> list[Numbers]:
    """Rows in order of risk, in ten parts."""
    parts = np.array_split(np.argsort(probability, kind="stable"), TENTHS)
    return [
        {
            "rows": len(part),
            "expected": _short(float(probability[part].sum())),
            "observed": int(happened[part].sum()),
        }
        for part in parts
        if len(part)
    ]


def compare(judged: Judged, rival: Vector, margin: float, samples: int, seed: int) -> Numbers:
    """The AUROC less that of a rival on the same rows, paired: not inferior if the lower bound is
    above -margin."""

    def gain(places: NDArray[np.int64] | slice) -> float:
        happened = judged.happened[places]
        ours = auroc(happened, judged.probability[places])
        return ours - auroc(happened, rival[places])

    drawn = [gain(some) for some in resamples(judged, samples, seed)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "rows": len(rival),
        "rival_auroc": _short(auroc(judged.happened, rival)),
        "difference": _short(gain(slice(None))),
        "low": _short(low),
        "high": _short(high),
        "margin": margin,
        "not_inferior": bool(low > -margin),
    }


def _short(value: float) -> float:
    return round(float(value), 4)
