"""NEWS2 with trend: the graph against a plain transcription, never less than NEWS2, monotone.

The chart is written here as it is printed; the trend as the card says it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from predicting import NOW, Chart, Road, World, of_type, parameters, predict

from fhir_server.model.problem import Unprocessable
from operations.models.package import load
from operations.models.registry import SHIPPED
from operations.models.runtime import Runtime

Row = dict[str, float]
ANY = 1000.0
RATES = [(0, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, ANY, 3)]
PRESSURES = [(0, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, ANY, 3)]
PULSES = [(0, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, ANY, 3)]
HEATS = [(0, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, ANY, 2)]
SCALE_1 = [(0, 91, 3), (92, 93, 2), (94, 95, 1), (96, ANY, 0)]
ON_AIR = [(0, 83, 3), (84, 85, 2), (86, 87, 1), (88, ANY, 0)]
ON_OXYGEN = [*ON_AIR[:3], (88, 92, 0), (93, 94, 1), (95, 96, 2), (97, ANY, 3)]
RANGES = {
    "respiratory-rate": (4.0, 40.0),
    "spo2": (80.0, 100.0),
    "sbp": (70.0, 230.0),
    "pulse": (30.0, 150.0),
    "temperature": (34.0, 41.0),
}
USUAL = {"respiratory-rate": 16.0, "spo2": 97.0, "sbp": 120.0, "pulse": 75.0, "temperature": 37.0}


def _in(value: float, table: list[tuple[float, float, int]]) -> int:
    return next(points for low, high, points in table if low <= value <= high)


def _chart(x: Row) -> Mapping[str, list[tuple[float, float, int]]]:
    scale_2 = ON_OXYGEN if x["on-oxygen"] else ON_AIR
    return {
        "respiratory-rate": RATES,
        "spo2": scale_2 if x["spo2-scale"] else SCALE_1,
        "sbp": PRESSURES,
        "pulse": PULSES,
        "temperature": HEATS,
    }


def _points(name: str, value: float, x: Row) -> int:
    tenths = 10 if name == "temperature" else 1
    rounded = max(math.floor(value * tenths + 0.5) / tenths, 0)
    return _in(rounded, list(_chart(x)[name]))


def _band(total: float) -> int:
    return 3 if total >= 7 else 2 if total >= 5 else 0


def early_warning(x: Row) -> Row:
    """As the card says."""
    given = 2 * x["on-oxygen"] + 3 * x["consciousness"]
    now, gained, worst = [2 * x["on-oxygen"], 3 * x["consciousness"]], 0.0, given
    for name in RANGES:
        low, high = x[f"{name}-min"], x[f"{name}-max"]
        change = max(min(x[f"{name}-slope"] / 4, high - low), low - high)
        current = _points(name, x[name], x)
        now.append(current)
        gained += max(_points(name, x[name] + change, x) - current, 0)
        worst += max(_points(name, value, x) for value in (low, x[name], high))
    total, trend = sum(now), min(gained, 3)
    risk = max(_band(total), 1 if max(now) >= 3 else 0)
    return {
        "early-warning": total + trend,
        "alert-level": max(risk, _band(total + trend)),
        "news2": total,
        "clinical-risk": risk,
        "trend": trend,
        "news2-worst": worst,
        "single-parameter": max(now),
    }


def _rows(count: int, seed: int) -> list[Row]:
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        row: Row = {"age": chance.randint(16, 120)}
        row |= {name: chance.randint(0, 1) for name in ("on-oxygen", "spo2-scale", "consciousness")}
        for name, (low, high) in RANGES.items():
            places = 1 if name == "temperature" else 0
            values = sorted(round(chance.uniform(low, high), places) for _ in range(3))
            row[f"{name}-min"], row[name], row[f"{name}-max"] = values
            # Quarters of whole steps, so that no sum lies within rounding of a band.
            row[f"{name}-slope"] = chance.choice((-8, -4, 0, 4, 8)) * (high - low) // 8
        rows.append(row)
    return rows


def _run(rows: list[Row]) -> list[Row]:
    async def main() -> dict[str, list[float]]:
        runtime = Runtime()
        package = load(SHIPPED / "news2_trend")
        columns = {f.name: [row[f.name] for row in rows] for f in package.features.feature}
        outputs = await runtime.run(package, columns)
        await runtime.close()
        return outputs

    found = asyncio.run(main())
    return [{name: values[i] for name, values in found.items()} for i in range(len(rows))]


def test_the_graph_is_what_the_card_says() -> None:
    rows = _rows(600, seed=8)
    for row, found in zip(rows, _run(rows), strict=True):
        assert found == early_warning(row), row


def test_it_never_shows_less_than_news2() -> None:
    for found in _run(_rows(600, seed=9)):
        assert 0 <= found["trend"] <= 3
        assert found["early-warning"] == found["news2"] + found["trend"]
        assert found["alert-level"] >= found["clinical-risk"]
        assert found["news2-worst"] >= found["news2"] >= found["single-parameter"]


WORSE = {"respiratory-rate": (20, 1), "sbp": (115, -1), "pulse": (85, 1), "temperature": (37, 1)}
"""A parameter at the good end of its scale, and which way it gets worse."""


@pytest.mark.parametrize("name", [*WORSE, "spo2"])
def test_a_steeper_way_to_the_bad_side_never_scores_less(name: str) -> None:
    start, sign = WORSE.get(name, (97, -1))
    wide = RANGES[name][1] - RANGES[name][0]
    rows = []
    for step in range(11):
        row: Row = {"age": 70, "on-oxygen": 0, "spo2-scale": 0, "consciousness": 0}
        for other, usual in USUAL.items():
            row |= {other: usual, f"{other}-slope": 0, f"{other}-min": usual, f"{other}-max": usual}
        row |= {name: start, f"{name}-slope": sign * step * wide / 5}
        row |= {f"{name}-min": start - wide, f"{name}-max": start + wide}
        rows.append(row)
    scores = [found["early-warning"] for found in _run(rows)]
    assert scores == sorted(scores) and scores[0] < scores[-1]


def _ward(series: Mapping[str, list[float]], hours: int = 4, **patient: Any) -> Chart:
    """One value of each every so many hours, the last one an hour ago."""
    codes = {
        "respiratory-rate": ("9279-1", "/min"),
        "spo2": ("59408-5", "%"),
        "sbp": ("8480-6", "mm[Hg]"),
        "pulse": ("8867-4", "/min"),
        "temperature": ("8310-5", "Cel"),
    }
    chart = Chart(**{"age": 60, **patient})
    for name, values in series.items():
        code, unit = codes[name]
        for back, value in enumerate(reversed(values)):
            hour = 11 - back * hours
            day = "2026-06-01" if hour >= 0 else "2026-05-31"
            chart.measure(code, value, unit, f"{day}T{hour % 24:02}:00:00Z")
    alert = {"coding": [{"system": "http://snomed.info/sct", "code": "248234008"}]}
    chart.add(
        "Observation",
        status="final",
        code={"coding": [{"system": "http://loinc.org", "code": "67775-7"}]},
        effectiveDateTime="2026-06-01T11:00:00Z",
        valueCodeableConcept=alert,
    )
    return chart


STEADY = {name: [value] * 4 for name, value in USUAL.items()}


def _outputs(chart: Chart, **asked: Any) -> dict[str, Decimal]:
    bundle = predict(chart.resources, parameters(model="news2-trend", **asked))
    (score,) = of_type(bundle, "Observation")
    parts = (score, *score["component"])
    return {p["code"]["coding"][-1]["code"]: p["valueQuantity"]["value"] for p in parts}


def test_from_a_record_that_gets_worse() -> None:
    """17, 18, 19, 20 every 4 hours: 6 a day, 1.5 in 6 hours: 21.5, so 2 points to come."""
    found = _outputs(_ward({**STEADY, "respiratory-rate": [17, 18, 19, 20]}))
    assert (found["news2"], found["trend"], found["early-warning"]) == (0, 2, 2)
    both = {**STEADY, "respiratory-rate": [17, 18, 19, 20], "pulse": [96, 100, 104, 108]}
    found = _outputs(_ward(both))  # 24 a day, 6 in 6 hours: 114
    assert (found["news2"], found["trend"], found["early-warning"]) == (1, 3, 4)
    assert _outputs(_ward({**both, "sbp": [106] * 4}))["alert-level"] == 2


def test_what_gets_better_takes_nothing_off() -> None:
    found = _outputs(_ward({**STEADY, "respiratory-rate": [30, 28, 26, 25]}))
    assert (found["news2"], found["trend"], found["news2-worst"]) == (3, 0, 3)


def test_two_values_are_no_trend_and_old_ones_do_not_count() -> None:
    found = _outputs(_ward({**STEADY, "respiratory-rate": [14, 20]}))
    assert (found["trend"], found["news2-worst"]) == (0, 0)
    found = _outputs(_ward({**STEADY, "respiratory-rate": [30, 18, 20]}, hours=12))
    assert found["news2-worst"] == 0  # the 30 is of the day before


def test_nothing_after_the_moment_is_used() -> None:
    chart = _ward({**STEADY, "respiratory-rate": [17, 18, 19, 20]})
    chart.measure("9279-1", 30, "/min", "2026-06-01T12:30:00Z")
    assert _outputs(chart, asOf=NOW)["early-warning"] == 2
    chart.measure("9279-1", 30, "/min", "2026-06-01T11:30:00Z")
    assert _outputs(chart, asOf=NOW)["early-warning"] == 3


def test_contributions_are_told_by_vital_sign() -> None:
    chart = _ward({**STEADY, "respiratory-rate": [17, 18, 19, 20]})
    text = str(predict(chart.resources, parameters(model="news2-trend")))
    assert "model-contribution" in text and "'valueCode': 'occlusion'" in text


REFUSED = [
    ({**STEADY, "pulse": [75, 75, 400, 75]}, {}, "pulse-max"),
    ({**STEADY, "temperature": [37, 37, 98.6]}, {}, "is not plausible"),
    (STEADY, {"age": 15}, "outside the population"),
    ({n: v for n, v in STEADY.items() if n != "sbp"}, {}, "sbp (Systolic blood pressure"),
]


@pytest.mark.parametrize(("series", "patient", "reason"), REFUSED)
def test_what_is_refused(
    series: Mapping[str, list[float]], patient: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        _outputs(_ward(series, **patient))
    assert reason in "\n".join(issue.diagnostics for issue in caught.value.issues)


def test_the_alias() -> None:
    package = Road.runner.run(Road.models.champion("early-warning"))
    assert package.id == "news2-trend-1.0.0" and package.card.alert is not None


def test_only_the_look_back_is_read_of_what_is_aggregated() -> None:
    chart = _ward({**STEADY, "respiratory-rate": [17, 18, 19, 20]})
    for day in range(10, 28):
        for hour in range(24):
            chart.measure("8867-4", 160, "/min", f"2026-05-{day}T{hour:02}:00:00Z")
    world = World(chart.resources)
    bundle = predict([], parameters(model="news2-trend"), world=world)
    (score,) = of_type(bundle, "Observation")
    assert score["valueQuantity"]["value"] == 2
    # The second one is for what the record never had: oxygen and the scale of saturation.
    assert world.searched.count("Observation") == 2
