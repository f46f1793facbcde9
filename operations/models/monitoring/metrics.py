"""What this process has counted of models, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from .distributions import distance
from .monitor import Monitor
from .tally import SECONDS

_BOUNDS: Final = (*map(str, SECONDS), "+Inf")


class ModelMetrics:
    """A collector of ``prometheus_client``; a version is named ``name-version``."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("vehr_model_calls", "Uses", labels=("model", "outcome"))
        missing = CounterMetricFamily(
            "vehr_model_missing", "Features that a record did not give", labels=("model", "feature")
        )
        seconds = HistogramMetricFamily(
            "vehr_model_seconds", "Seconds of one use", labels=("model",)
        )
        psi = GaugeMetricFamily(
            "vehr_model_psi", "Drift since the start", labels=("model", "kind", "name")
        )
        for id_, tally in list(self._monitor.own.items()):
            none = tally.calls - tally.results - tally.errors
            for outcome, count in (("result", tally.results), ("none", none)):
                calls.add_metric((id_, outcome), count)
            calls.add_metric((id_, "error"), tally.errors)
            for feature, count in tally.missing.items():
                missing.add_metric((id_, feature), count)
            counted = zip(_BOUNDS, accumulate(tally.times), strict=True)
            seconds.add_metric((id_,), list(counted), tally.total)
            for kind, name, value in self._drift(id_):
                psi.add_metric((id_, kind, name), value)
        yield from (calls, missing, seconds, psi)

    def _drift(self, id_: str) -> Iterator[tuple[str, str, float]]:
        reference, tally = self._monitor.references.get(id_), self._monitor.own[id_]
        if reference is None:
            return
        for kind, expected, found in (
            ("input", reference.inputs, tally.inputs),
            ("output", reference.outputs, tally.outputs),
        ):
            for name, counts in found.items():
                yield kind, name, distance(expected[name].counts, counts).psi
