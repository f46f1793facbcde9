"""How good probabilities are: discrimination, calibration, and how sure that is.

AUROC: the share of pairs with and without the event that are in order (ties half). Calibration
slope and intercept: of the logistic regression of the event on the logit; the intercept with the
slope held at 1 (calibration in the large). Intervals are 95 % percentiles of a bootstrap over
patients, so that several rows of one stay together. Brier skill: 1 - Brier / p(1 - p). ECE: the
mean distance of expected and observed over tenths of risk. Weights, where there are any, make those
who stayed stand for those who left early; the bootstrap takes them for given.
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
THRESHOLDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Of risk."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Probabilities with what happened; ``who``: a number for each patient."""

    happened: Vector
    probability: Vector
    who: NDArray[np.int64]
    weight: Vector

    @classmethod
    def of(
        cls,
        happened: Sequence[bool],
        probability: Sequence[float],
        patients: Sequence[str],
        weights: Sequence[float] | None = None,
    ) -> Judged:
        """``weights``: 1 each if None."""
        _, who = np.unique(np.array(patients, dtype=str), return_inverse=True)
        weight = np.ones(len(happened)) if weights is None else np.array(weights, float)
        real, said = np.array(happened, float), np.array(probability, float)
        return cls(real, said, who.astype(np.int64), weight)

    def at(self, places: Sequence[int] | NDArray[np.int64]) -> Judged:
        some = np.asarray(places, dtype=np.int64)
        return Judged(
            self.happened[some], self.probability[some], self.who[some], self.weight[some]
        )


def auroc(happened: Vector, score: Vector, weight: Vector | None = None) -> float:
    """0.5 where only one kind is there."""
    weight = np.ones_like(happened) if weight is None else weight
    places, inverse = np.unique(score, return_inverse=True)
    positive = np.bincount(inverse, weight * happened, len(places))
    negative = np.bincount(inverse, weight * (1 - happened), len(places))
    pairs = float(positive.sum() * negative.sum())
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below) / pairs if pairs else 0.5


def brier(happened: Vector, probability: Vector, weight: Vector | None = None) -> float:
    return float(np.average((probability - happened) ** 2, weights=weight))


def skill(happened: Vector, probability: Vector, weight: Vector | None = None) -> float:
    rate = float(np.average(happened, weights=weight))
    least = rate * (1 - rate)
    return 1 - brier(happened, probability, weight) / least if 0 < rate < 1 else 0.0


def logit(probability: Vector) -> Vector:
    """Of probabilities, those at the ends moved in a little."""
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)


def calibration(
    happened: Vector, probability: Vector, weight: Vector | None = None
) -> tuple[float, float]:
    """Slope, and intercept at a slope of 1."""
    score = logit(probability)
    weight = np.ones_like(score) if weight is None else weight
    slope = np.column_stack([np.ones_like(score), score])
    bent = _newton(slope, happened, np.zeros_like(score), weight)
    large = _newton(np.ones((len(score), 1)), happened, score, weight)
    return float(bent[1]), float(large[0])


def _newton(design: Vector, happened: Vector, offset: Vector, weight: Vector) -> Vector:
    """Logistic regression by maximum likelihood, a little ridge against separation."""
    weights = np.zeros(design.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights + offset, -30, 30)))
        slope = design.T @ (weight * (happened - chance)) - 1e-6 * weights
        curve = design.T @ (design * (weight * chance * (1 - chance))[:, None])
        step = np.linalg.solve(curve + 1e-6 * np.eye(len(weights)), slope)
        weights = weights + np.clip(step, -5, 5)
        if float(np.abs(step).max()) < 1e-9:
            break
    return weights


MEASURES: Final[dict[str, Callable[[Vector, Vector, Vector], float]]] = {
    "auroc": auroc,
    "brier": brier,
    "brier_skill": skill,
    "slope": lambda happened, probability, weight: calibration(happened, probability, weight)[0],
    "intercept": lambda happened, probability, weight: calibration(happened, probability, weight)[
        1
    ],
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
    happened, probability, weight = judged.happened, judged.probability, judged.weight
    events = int(happened.sum())
    told: Numbers = {
        "rows": len(happened),
        "patients": len(np.unique(judged.who)),
        "events": events,
        "rate": _short(float(np.average(happened, weights=weight))) if len(happened) else None,
    }
    if min(events, len(happened) - events) < FEWEST:
        return told | {"note": f"fewer than {FEWEST} rows with or without the event: not judged"}
    places = resamples(judged, samples, seed)
    for name, measure in MEASURES.items():
        drawn = [
            measure(happened[some], probability[some], weight[some])
            for some in places
            if 0 < happened[some].sum() < len(some)
        ]
        low, high = np.percentile(drawn, [2.5, 97.5])
        value = measure(happened, probability, weight)
        told[name] = {"value": _short(value), "low": _short(low), "high": _short(high)}
    plot = tenths(judged)
    apart = sum(abs(one["expected"] - one["observed"]) for one in plot)
    told["ece"] = _short(apart / float(weight.sum()))
    return told | {"tenths": plot, "decisions": decisions(judged)}


def tenths(judged: Judged) -> list[Numbers]:
    """Rows in order of risk, in ten parts: the points of a calibration plot. ``expected`` and
    ``observed``: events, weighted."""
    happened, probability, weight = judged.happened, judged.probability, judged.weight
    parts = np.array_split(np.argsort(probability, kind="stable"), TENTHS)
    return [
        {
            "rows": len(part),
            "expected": _short(float(weight[part] @ probability[part])),
            "observed": _short(float(weight[part] @ happened[part])),
        }
        for part in parts
        if len(part)
    ]


def decisions(judged: Judged) -> list[Numbers]:
    """What acting from a threshold of risk on means. ``flagged``: share of people; net benefit,
    of acting by the model and of acting on everybody: true positives less false ones times the
    odds of the threshold, per person (Vickers, doi:10.1177/0272989X06295361)."""
    total = float(judged.weight.sum())
    positive = float(judged.weight @ judged.happened)
    table = []
    for threshold in THRESHOLDS:
        flagged = judged.weight * (judged.probability >= threshold)
        true, odds = float(flagged @ judged.happened), threshold / (1 - threshold)
        false = float(flagged.sum()) - true
        table.append(
            {
                "threshold": threshold,
                "flagged": _short((true + false) / total),
                "sensitivity": _short(true / positive),
                "specificity": _short(1 - false / (total - positive)),
                "predictive_value": _short(true / (true + false)) if true + false else None,
                "net_benefit": _short((true - odds * false) / total),
                "net_benefit_all": _short((positive - odds * (total - positive)) / total),
            }
        )
    return table


def compare(
    judged: Judged, rival: Vector, margin: float, samples: int, seed: int, looks: int = 1
) -> Numbers:
    """The AUROC less that of a rival on the same rows, paired: not inferior if the lower bound is
    above -margin. Without weights: as the rival was judged."""

    def gain(places: NDArray[np.int64] | slice) -> float:
        happened = judged.happened[places]
        ours = auroc(happened, judged.probability[places])
        return ours - auroc(happened, rival[places])

    drawn = [gain(some) for some in resamples(judged, samples, seed)]
    low, high = np.percentile(drawn, [2.5 / looks, 100 - 2.5 / looks])
    return {
        "rows": len(rival),
        "auroc": _short(auroc(judged.happened, judged.probability)),
        "rival_auroc": _short(auroc(judged.happened, rival)),
        "difference": _short(gain(slice(None))),
        "low": _short(low),
        "high": _short(high),
        "margin": margin,
        "looks": looks,
        "not_inferior": bool(low > -margin),
    }


def _short(value: float) -> float:
    return round(float(value), 4)
