"""Builds the ONNX graph of NEWS2 with trend beside ``build_scores.py``, whose chart it uses.

``python scripts/build_early_warning.py`` writes ``operations/models/news2_trend/model.onnx``.
Nothing is trained: the horizon is the interval in which the chart wants the next observations of
whom it does not yet call urgent, the most that a trend may add is what one parameter may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from build_models import HERE, MODELS, Graph
from build_scores import NEWS2_SCALES, _flag, _round, _steps
from onnx import ModelProto

HORIZON: Final = 6 / 24
"""Days. Royal College of Physicians 2017, chart 4: a score of 1-4 is observed again within 4-6
hours at least; slopes are per day."""
MOST: Final = 3.0
"""Points of one parameter of the chart, so of the trend too."""

Points = Callable[[str], str]


def _ahead(g: Graph, name: str) -> str:
    """The newest value moved on by its slope, by no more than it has varied within the day."""
    varied = g.op("Max", g.op("Sub", g.feature(f"{name}-max"), g.feature(f"{name}-min")), 0.0)
    change = g.op("Mul", g.feature(f"{name}-slope"), HORIZON)
    bounded = g.op("Max", g.op("Min", change, varied), g.op("Neg", varied))
    return g.op("Add", name, bounded)


def _saturation(g: Graph) -> Points:
    """Scale 1, or scale 2 on air or on oxygen."""
    given = g.op("Greater", g.feature("on-oxygen"), 0.5)
    second = g.op("Greater", g.feature("spo2-scale"), 0.5)

    def points(value: str) -> str:
        whole = g.op("Min", _round(g, value), 100.0)
        on = _steps(g, whole, *NEWS2_SCALES["scale-2 on oxygen"])
        air = _steps(g, whole, *NEWS2_SCALES["scale-2 on air"])
        first = _steps(g, whole, *NEWS2_SCALES["scale-1"])
        return g.op("Where", second, g.op("Where", given, on, air), first)

    return points


def _charted(g: Graph, scale: str, unit: float = 1.0) -> Points:
    return lambda value: _steps(g, _round(g, value, unit), *NEWS2_SCALES[scale])


def news2_trend(data: dict[str, Any]) -> ModelProto:
    """Early warning: NEWS2 and up to three points of trend; the level of alert (0 to 3)."""
    g = Graph("news2-trend")
    g.feature("age")  # decides who is in the population, not the points
    parameters: dict[str, Points] = {
        "respiratory-rate": _charted(g, "respiratory-rate"),
        "spo2": _saturation(g),
        "sbp": _charted(g, "systolic"),
        "pulse": _charted(g, "pulse"),
        "temperature": _charted(g, "temperature", 10),
    }
    oxygen = g.op("Mul", "on-oxygen", 2.0)
    consciousness = g.op("Mul", g.feature("consciousness"), 3.0)
    now, gained, worst = [oxygen, consciousness], [], [oxygen, consciousness]
    for name, points in parameters.items():
        current = points(g.feature(name))
        later = points(_ahead(g, name))
        now.append(current)
        gained.append(g.op("Max", g.op("Sub", later, current), 0.0))
        worst.append(g.op("Max", current, points(f"{name}-min"), points(f"{name}-max")))
    total = g.op("Sum", *now)
    trend = g.op("Min", g.op("Sum", *gained), MOST)
    warning = g.op("Add", total, trend)
    single = g.op("Max", *now)
    risk = g.op("Max", _flag(g, "GreaterOrEqual", single, 3.0), _band(g, total))
    g.output("early-warning", warning)
    g.output("alert-level", g.op("Max", risk, _band(g, warning)))
    g.output("news2", total)
    g.output("clinical-risk", risk)
    g.output("trend", trend)
    g.output("news2-worst", g.op("Sum", *worst))
    g.output("single-parameter", single)
    return g.model()


def _band(g: Graph, total: str) -> str:
    """0 low, 2 medium from 5, 3 high from 7; 1 is a single parameter of 3."""
    return _steps(g, total, 0, [(5, 2), (7, 3)])


def main() -> None:
    path = MODELS / "news2_trend" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(news2_trend({}).SerializeToString(deterministic=True))
    print(f"{path.relative_to(HERE.parent)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
