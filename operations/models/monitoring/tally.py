"""Counts of one version: what can be added up over processes and days."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .distributions import Distribution, Reference

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One use of a version. ``inputs``: as the graph takes them, without what was assumed;
    ``missing``: features that the record does not give; ``outputs``: empty without a result."""

    inputs: Mapping[str, float]
    missing: tuple[str, ...]
    outputs: Mapping[str, float]
    seconds: float


@dataclass(slots=True)
class Tally:
    """``calls``: with or without a result; ``results``: with one; ``errors``: the graph could not
    be run. ``asked``: how often a feature was looked for. ``pairs``: of a challenger, beside the
    champion; ``apart``: the sum of the differences of their outputs."""

    calls: int = 0
    results: int = 0
    errors: int = 0
    times: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0
    asked: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, list[int]] = field(default_factory=dict)
    pairs: int = 0
    apart: float = 0.0

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Tally:
        return cls(**value)

    def value(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def timed(self, seconds: float) -> None:
        self.times[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def failed(self, seconds: float) -> None:
        self.calls += 1
        self.errors += 1
        self.timed(seconds)

    def seen(self, sample: Sample, reference: Reference | None) -> None:
        self.calls += 1
        self.results += bool(sample.outputs)
        self.timed(sample.seconds)
        for name in sample.missing:
            _add(self.missing, name)
        for name in (*sample.inputs, *sample.missing):
            _add(self.asked, name)
        if reference is not None:
            _count(self.inputs, sample.inputs, reference.inputs)
            _count(self.outputs, sample.outputs, reference.outputs)

    def beside(self, own: Mapping[str, float], champion: Mapping[str, float]) -> None:
        """What a challenger says where the champion says something too."""
        both = own.keys() & champion.keys()
        if both:
            self.pairs += 1
            self.apart += sum(abs(own[name] - champion[name]) for name in both) / len(both)

    def add(self, other: Tally) -> None:
        self.calls += other.calls
        self.results += other.results
        self.errors += other.errors
        self.total += other.total
        self.pairs += other.pairs
        self.apart += other.apart
        self.times = [a + b for a, b in zip(self.times, other.times, strict=True)]
        for mine, its in ((self.asked, other.asked), (self.missing, other.missing)):
            for name, count in its.items():
                _add(mine, name, count)
        for bins, more in ((self.inputs, other.inputs), (self.outputs, other.outputs)):
            for name, counts in more.items():
                known = bins.get(name, [0] * len(counts))
                if len(known) == len(counts):
                    bins[name] = [a + b for a, b in zip(known, counts, strict=True)]

    def quantile(self, share: float) -> float:
        """Seconds that so many of the calls took at most, as far as the buckets tell."""
        wanted, found = share * sum(self.times), 0
        for bound, count in zip((*SECONDS, SECONDS[-1]), self.times, strict=True):
            found += count
            if found and found >= wanted:
                return bound
        return 0.0


def _add(counts: dict[str, int], name: str, more: int = 1) -> None:
    counts[name] = counts.get(name, 0) + more


def _count(
    bins: dict[str, list[int]], values: Mapping[str, float], known: Mapping[str, Distribution]
) -> None:
    for name, value in values.items():
        distribution = known.get(name)
        if distribution is not None:
            counts = bins.setdefault(name, [0] * len(distribution.counts))
            counts[bisect_left(distribution.edges, value)] += 1
