"""Distributions by bins, and how far two of them are apart.

PSI: sum of (a - e) ln(a / e) over the bins. By chance alone it is about (1/n + 1/m) times a
chi-squared of bins - 1 (Yurdakul, Statistical properties of population stability index, 2018), so
that a difference counts only if it is large *and* beyond what so few values give. KS: the greatest
distance of the two cumulative distributions, at the edges of the bins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, sqrt
from typing import Any, Final

BINS: Final = 10
DISCRETE: Final = 12
"""Different values up to which each has a bin of its own."""
Z: Final = 3.7
"""Of the normal distribution: chance gives more once in 10,000."""
KOLMOGOROV: Final = 2.23
"""The same for the distance of two samples."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """``edges``: rising; bin i holds what is above edge i - 1 and not above edge i. ``counts``: one
    more than edges."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """Bins of equally many values; of few different ones a bin each."""
        ordered = sorted(values)
        different = sorted(set(ordered))
        if len(different) <= DISCRETE:
            edges = [(a + b) / 2 for a, b in pairwise(different)]
        else:
            places = (ordered[len(ordered) * i // BINS] for i in range(1, BINS))
            edges = sorted(set(places))
        made = cls(tuple(edges), (0,) * (len(edges) + 1))
        return made.counted(values)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Distribution:
        """Raises ValueError."""
        edges, counts = tuple(map(float, value["edges"])), tuple(map(int, value["counts"]))
        if len(counts) != len(edges) + 1 or list(edges) != sorted(set(edges)) or min(counts) < 0:
            raise ValueError("edges rise, and there is a count more than edges")
        return cls(edges, counts)

    def counted(self, values: Sequence[float]) -> Distribution:
        """The same bins with these values."""
        counts = [0] * len(self.counts)
        for value in values:
            counts[bisect_left(self.edges, value)] += 1
        return Distribution(self.edges, tuple(counts))

    def to_json(self) -> dict[str, Any]:
        return {"edges": list(self.edges), "counts": list(self.counts)}


@dataclass(frozen=True, slots=True)
class Distance:
    """``n``: values compared; ``chance``: what PSI and KS may come to without any difference."""

    n: int
    psi: float
    ks: float
    psi_chance: float
    ks_chance: float


def distance(expected: Sequence[int], found: Sequence[int]) -> Distance:
    """Of two counts over the same bins; half a value is added to each bin."""
    m, n, bins = sum(expected), sum(found), len(expected)
    if not m or not n:
        return Distance(n, 0.0, 0.0, 0.0, 0.0)
    psi = ks = below = 0.0
    for e, a in zip(expected, found, strict=True):
        share_e, share_a = (e + 0.5) / (m + bins / 2), (a + 0.5) / (n + bins / 2)
        psi += (share_a - share_e) * log(share_a / share_e)
        below += a / n - e / m
        ks = max(ks, abs(below))
    few = 1 / m + 1 / n
    return Distance(n, psi, ks, few * chi_squared(bins - 1), KOLMOGOROV * sqrt(few))


def chi_squared(freedom: int) -> float:
    """The value that chance exceeds once in 10,000 (Wilson and Hilferty 1931)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + Z * sqrt(spread)) ** 3)


@dataclass(frozen=True, slots=True)
class Reference:
    """What inputs and outputs were like when the model was made, by name. ``origin``: training, or
    first (the first ones in use)."""

    inputs: dict[str, Distribution]
    outputs: dict[str, Distribution]
    origin: str = "training"

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, Sequence[float]],
        outputs: Mapping[str, Sequence[float]],
        origin: str = "training",
    ) -> Reference:
        """Of raw values, as the graph takes and gives them."""
        return cls(
            {name: Distribution.of(values) for name, values in inputs.items()},
            {name: Distribution.of(values) for name, values in outputs.items()},
            origin,
        )

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Reference:
        """Of ``reference.json``. Raises ValueError."""
        try:
            inputs, outputs = value["inputs"], value["outputs"]
            return cls(
                {str(name): Distribution.read(one) for name, one in inputs.items()},
                {str(name): Distribution.read(one) for name, one in outputs.items()},
                str(value.get("origin", "training")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("it holds inputs and outputs with edges and counts") from error

    def to_json(self) -> dict[str, Any]:
        """``reference.json``."""
        return {
            "origin": self.origin,
            "inputs": {name: one.to_json() for name, one in self.inputs.items()},
            "outputs": {name: one.to_json() for name, one in self.outputs.items()},
        }
