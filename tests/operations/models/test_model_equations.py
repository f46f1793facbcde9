"""The graphs against a plain transcription of the published formulas, over random patients."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operations.models.package import load
from operations.models.registry import SHIPPED
from operations.models.runtime import Runtime

DATA: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "scripts" / "risk_coefficients.json").read_text(encoding="utf-8")
)
REGIONS = ("low", "moderate", "high", "very high")
Row = dict[str, float]


def score2(x: Row) -> dict[str, float]:
    sex = "female" if x["sex"] else "male"
    old = x["age"] >= 70
    part = DATA["SCORE2-OP" if old else "SCORE2"]
    b = part["beta"][sex]
    a = x["age"] - 73 if old else (x["age"] - 60) / 5
    s = x["sbp"] - 150 if old else (x["sbp"] - 120) / 20
    t = x["total-cholesterol"] - 6
    h = x["hdl-cholesterol"] - 1.4 if old else (x["hdl-cholesterol"] - 1.3) / 0.5
    k = x["smoker"]
    lp = b["age"] * a + b["smk"] * k + b["sbp"] * s + b["tc"] * t + b["hdl"] * h
    lp += a * (b["a_smk"] * k + b["a_sbp"] * s + b["a_tc"] * t + b["a_hdl"] * h)
    risk = 1 - b["s0"] ** math.exp(lp - b.get("mlp", 0))
    s1, s2 = part["scales"][f"{REGIONS[int(x['region'])]}|{sex}"]
    return {"cvd-10y": 1 - math.exp(-math.exp(s1 + s2 * math.log(-math.log(1 - risk))))}


def prevent(x: Row) -> dict[str, float]:
    terms = {
        "age": (x["age"] - 55) / 10,
        "non_hdl": (x["total-cholesterol"] - x["hdl-cholesterol"]) * 0.02586 - 3.5,
        "hdl": (x["hdl-cholesterol"] * 0.02586 - 1.3) / 0.3,
        "sbp_lt110": (min(x["sbp"], 110) - 110) / 20,
        "sbp_ge110": (max(x["sbp"], 110) - 130) / 20,
        "bmi_lt30": (min(x["bmi"], 30) - 25) / 5,
        "bmi_ge30": (max(x["bmi"], 30) - 30) / 5,
        "egfr_lt60": (min(x["egfr"], 60) - 60) / -15,
        "egfr_ge60": (max(x["egfr"], 60) - 90) / -15,
        "dm": x["diabetes"],
        "smoking": x["smoker"],
        "bp_tx": x["bp-treated"],
        "statin": x["statin"],
        "constant": 1.0,
    }
    terms["age^2"] = terms["age"] ** 2
    part, sex = DATA["PREVENT-base"], "female" if x["sex"] else "male"
    names = {"cvd": "total_cvd", "ascvd": "ascvd", "hf": "heart_failure", "chd": "chd"}
    found = {}
    for years in ("10y", "30y"):
        for short, long in (names | {"stroke": "stroke"}).items():
            total = 0.0
            for name, weight in zip(
                part[f"terms_{years}"], part[years][f"{sex}_{long}"], strict=True
            ):
                factors = [name] if name in terms else name.split("*")
                total += weight * math.prod(terms[factor] for factor in factors)
            found[f"{short}-{years}"] = 1 / (1 + math.exp(-total))
    return found


def ckd_epi_2021(x: Row) -> dict[str, float]:
    k, alpha, factor = (0.7, -0.241, 1.012) if x["sex"] else (0.9, -0.302, 1.0)
    ratio = x["creatinine"] / k
    value = 142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.2 * 0.9938 ** x["age"] * factor
    return {"egfr": value}


RANGES: dict[str, tuple[float, float]] = {
    "sbp": (90, 180),
    "bmi": (18.5, 39.9),
    "egfr": (15, 140),
    "creatinine": (0.2, 12),
}


def _patient(model: str, name: str, rng: random.Random) -> float:
    if name == "age":
        return float(rng.randint(*{"score2": (40, 89), "prevent": (30, 79)}.get(model, (18, 99))))
    if name == "region":
        return float(rng.randrange(4))
    if name == "total-cholesterol":
        return rng.uniform(3, 9) if model == "score2" else rng.uniform(130, 320)
    if name == "hdl-cholesterol":
        return rng.uniform(0.6, 3) if model == "score2" else rng.uniform(20, 100)
    return rng.uniform(*RANGES[name]) if name in RANGES else float(rng.randrange(2))


def _run(model: str, rows: list[Row]) -> list[dict[str, float]]:
    async def main() -> dict[str, list[float]]:
        runtime = Runtime()
        try:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            return await runtime.run(load(SHIPPED / model), columns)
        finally:
            await runtime.close()

    outputs = asyncio.run(main())
    return [{name: values[i] for name, values in outputs.items()} for i in range(len(rows))]


@pytest.mark.parametrize("formula", [score2, prevent, ckd_epi_2021])
def test_the_graph_is_the_formula(formula: Callable[[Row], dict[str, float]]) -> None:
    model, rng = formula.__name__, random.Random(2021)
    features = [feature.name for feature in load(SHIPPED / model).features.feature]
    rows = [{name: _patient(model, name, rng) for name in features} for _ in range(500)]
    for row, found in zip(rows, _run(model, rows), strict=True):
        expected = formula(row)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert math.isclose(found[name], value, rel_tol=1e-12, abs_tol=1e-14), (row, name)


@pytest.mark.parametrize("model", ["score2", "prevent"])
def test_risk_rises_with_pressure_and_smoking(model: str) -> None:
    rng = random.Random(7)
    features = [feature.name for feature in load(SHIPPED / model).features.feature]
    rows = []
    for _ in range(100):
        base = {name: _patient(model, name, rng) for name in features} | {"smoker": 0.0}
        base |= {"sbp": rng.uniform(110, 150), "age": float(rng.randint(40, 69))}
        rows += [base, base | {"sbp": base["sbp"] + 20}, base | {"smoker": 1.0}]
    found = [row["cvd-10y"] for row in _run(model, rows)]
    for i in range(0, len(rows), 3):
        assert found[i] < found[i + 1] and found[i] < found[i + 2]
