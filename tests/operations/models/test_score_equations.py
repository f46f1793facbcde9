"""The graphs of ``build_scores.py`` against a plain transcription of what was published.

Thresholds are written here as the papers print them, not as steps of the build script.
"""

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
Row = dict[str, float]


def kfre_4(x: Row) -> dict[str, float]:
    """Tangri 2016, as in the supplement: male, per 10 years, per 5 mL/min, ln(mg/g)."""
    total = -0.2201 * (x["age"] / 10 - 7.036) + 0.2467 * (1 - x["sex"] - 0.5642)
    total += -0.5567 * (x["egfr"] / 5 - 7.222) + 0.4510 * (math.log(x["acr"]) - 5.137)
    two, five = (0.9832, 0.9365) if x["calibration"] else (0.9750, 0.9240)
    return {
        "kidney-failure-2y": 1 - two ** math.exp(total),
        "kidney-failure-5y": 1 - five ** math.exp(total),
    }


def _profile(part: dict[str, float], x: Row, measured: dict[str, str]) -> dict[str, float]:
    total = sum(part[name] * math.log(x[feature]) for name, feature in measured.items())
    treated = "ln_sbp_treated" if x["bp-treated"] else "ln_sbp_untreated"
    total += part[treated] * math.log(x["sbp"])
    total += part["smoker"] * x["smoker"] + part["diabetes"] * x["diabetes"]
    return {"cvd-10y": 1 - part["s0"] ** math.exp(total - part["mean"])}


def framingham(x: Row) -> dict[str, float]:
    part = DATA["Framingham-2008"]["female" if x["sex"] else "male"]
    names = {"ln_age": "age", "ln_tc": "total-cholesterol", "ln_hdl": "hdl-cholesterol"}
    return _profile(part, x, names)


def framingham_bmi(x: Row) -> dict[str, float]:
    part = DATA["Framingham-2008-BMI"]["female" if x["sex"] else "male"]
    return _profile(part, x, {"ln_age": "age", "ln_bmi": "bmi"})


def meld_3(x: Row) -> dict[str, float]:
    bilirubin, inr = max(x["bilirubin"], 1), max(x["inr"], 1)
    creatinine = 3 if x["dialysis"] else min(max(x["creatinine"], 1), 3)
    sodium = 137 - min(max(x["sodium"], 125), 137)
    albumin = 3.5 - min(max(x["albumin"], 1.5), 3.5)
    raw = 1.33 * (x["sex"] == 1 or x["age"] < 18) + 4.56 * math.log(bilirubin)
    raw += 0.82 * sodium - 0.24 * sodium * math.log(bilirubin) + 9.09 * math.log(inr)
    raw += 11.14 * math.log(creatinine) + 1.85 * albumin
    raw += -1.83 * albumin * math.log(creatinine) + 6
    return {"meld-3": min(max(math.floor(raw + 0.5), 6), 40), "meld-3-raw": raw}


def fib_4(x: Row) -> dict[str, float]:
    return {"fib-4": x["age"] * x["ast"] / (x["platelets"] * math.sqrt(x["alt"]))}


def qsofa(x: Row) -> dict[str, float]:
    return {"qsofa": float((x["respiratory-rate"] >= 22) + (x["sbp"] <= 100) + (x["gcs"] < 15))}


def cha2ds2_vasc(x: Row) -> dict[str, float]:
    age = 2 if x["age"] >= 75 else 1 if x["age"] >= 65 else 0
    ones = ("heart-failure", "hypertension", "diabetes", "vascular-disease", "sex")
    return {"cha2ds2-vasc": age + 2 * x["stroke"] + sum(x[name] for name in ones)}


def has_bled(x: Row) -> dict[str, float]:
    ones = ("liver", "stroke", "bleeding", "labile-inr", "drugs", "alcohol")
    renal = bool(x["renal"]) or x["creatinine"] >= 200
    total = (x["sbp"] > 160) + (x["age"] > 65) + renal + sum(x[name] for name in ones)
    return {"has-bled": total}


def findrisc(x: Row) -> dict[str, float]:
    age = 4 if x["age"] >= 65 else 3 if x["age"] >= 55 else 2 if x["age"] >= 45 else 0
    bmi = 3 if x["bmi"] > 30 else 1 if x["bmi"] >= 25 else 0
    low, high = (80, 88) if x["sex"] else (94, 102)
    waist = 4 if x["waist"] > high else 3 if x["waist"] >= low else 0
    total = age + bmi + waist + 2 * (1 - x["active"]) + (1 - x["vegetables-daily"])
    total += 2 * x["bp-treated"] + 5 * x["high-glucose"] + (0, 3, 5)[int(x["family"])]
    return {"findrisc": total}


def _in(value: float, table: list[tuple[float, float, int]]) -> int:
    """The chart as printed: from, to, points."""
    return next(points for low, high, points in table if low <= value <= high)


ANY = 1000.0


def news2(x: Row) -> dict[str, float]:
    on_oxygen, tenths = bool(x["on-oxygen"]), math.floor(x["temperature"] * 10 + 0.5)
    whole = {n: math.floor(x[n] + 0.5) for n in ("respiratory-rate", "spo2", "sbp", "pulse")}
    if not x["spo2-scale"]:
        chart = [(0, 91, 3), (92, 93, 2), (94, 95, 1), (96, ANY, 0)]
    elif on_oxygen:
        chart = [(0, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 94, 1), (95, 96, 2)]
        chart += [(97, ANY, 3)]
    else:
        chart = [(0, 83, 3), (84, 85, 2), (86, 87, 1), (88, ANY, 0)]
    rates = [(0, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, ANY, 3)]
    pressures = [(0, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, ANY, 3)]
    pulses = [(0, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, ANY, 3)]
    heats = [(0, 350, 3), (351, 360, 1), (361, 380, 0), (381, 390, 1), (391, ANY, 2)]
    points = {
        "respiration": _in(whole["respiratory-rate"], rates),
        "saturation": _in(whole["spo2"], chart),
        "oxygen": 2 * on_oxygen,
        "systolic": _in(whole["sbp"], pressures),
        "pulse": _in(whole["pulse"], pulses),
        "consciousness": 3 * int(x["consciousness"]),
        "temperature": _in(tenths, heats),
    }
    total = sum(points.values())
    risk = 3 if total >= 7 else 2 if total >= 5 else 1 if 3 in points.values() else 0
    return {"news2": total, "clinical-risk": risk} | {f"{n}-points": p for n, p in points.items()}


WEIGHTS = {
    1: "myocardial-infarction congestive-heart-failure peripheral-vascular-disease "
    "cerebrovascular-disease dementia chronic-pulmonary-disease connective-tissue-disease "
    "peptic-ulcer mild-liver-disease diabetes",
    2: "hemiplegia renal-disease diabetes-complicated solid-tumour leukaemia lymphoma",
    3: "severe-liver-disease",
    6: "metastatic-tumour aids",
}


def charlson(x: Row) -> dict[str, float]:
    found = {name for name, value in x.items() if name != "age" and value}
    for milder, graver in (
        ("mild-liver-disease", "severe-liver-disease"),
        ("diabetes", "diabetes-complicated"),
        ("solid-tumour", "metastatic-tumour"),
    ):
        if graver in found:
            found.discard(milder)
    index = sum(w for w, names in WEIGHTS.items() for name in names.split() if name in found)
    by_50 = min(max(int(x["age"] // 10) - 4, 0), 4)
    by_51 = min(max(math.ceil(x["age"] / 10) - 5, 0), 4)
    return {"charlson": index, "charlson-age-50": index + by_50, "charlson-age-51": index + by_51}


FORMULAS = [kfre_4, framingham, framingham_bmi, meld_3, fib_4, news2, qsofa, cha2ds2_vasc]
FORMULAS += [has_bled, findrisc, charlson]

RANGES: dict[str, tuple[float, float]] = {
    "age": (18, 100),
    "egfr": (10, 59.9),
    "acr": (0.5, 5000),
    "total-cholesterol": (80, 400),
    "hdl-cholesterol": (15, 120),
    "sbp": (60, 240),
    "bmi": (15, 50),
    "bilirubin": (0.2, 30),
    "sodium": (110, 160),
    "inr": (0.7, 6),
    "albumin": (1, 5.5),
    "ast": (8, 900),
    "alt": (8, 900),
    "platelets": (20, 700),
    "respiratory-rate": (4, 40),
    "spo2": (75, 100),
    "pulse": (30, 180),
    "temperature": (33, 42),
    "gcs": (3, 15),
    "waist": (60, 140),
}
WHOLE = ("age", "gcs")


def _rows(model: str, count: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    features = load(SHIPPED / model).features.feature

    def value(name: str, choices: int) -> float:
        if name == "creatinine":  # mg/dL, or umol/L in HAS-BLED
            return rng.uniform(40, 400) if model == "has_bled" else rng.uniform(0.3, 6)
        if name not in RANGES:
            return float(rng.randrange(choices or 2))
        if name == "age" and model == "meld_3":
            return float(rng.randint(12, 80))
        found = rng.uniform(*RANGES[name])
        return float(round(found)) if name in WHOLE else round(found, rng.randrange(4))

    return [{f.name: value(f.name, len(f.choices)) for f in features} for _ in range(count)]


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


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_graph_is_the_formula(formula: Callable[[Row], dict[str, float]]) -> None:
    rows = _rows(formula.__name__, 800, 2016)
    for row, found in zip(rows, _run(formula.__name__, rows), strict=True):
        expected = formula(row)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert math.isclose(found[name], value, rel_tol=1e-11, abs_tol=1e-12), (row, name)


def test_a_wrong_formula_is_seen() -> None:
    rows = _rows("has_bled", 100, 1)
    wrong = [has_bled(row | {"sbp": row["sbp"] + 1e3}) for row in rows]
    assert wrong != _run("has_bled", rows)


MONOTONE: dict[str, dict[str, float]] = {
    "kfre_4": {"age": -5, "egfr": -5, "acr": 50},
    "framingham": {"age": 3, "total-cholesterol": 20, "hdl-cholesterol": -8, "sbp": 10},
    "framingham_bmi": {"age": 3, "bmi": 2, "sbp": 10},
    "meld_3": {"bilirubin": 2, "inr": 0.5, "creatinine": 0.5},
    "fib_4": {"age": 5, "ast": 20, "alt": -5, "platelets": -15},
    "news2": {"on-oxygen": 1, "consciousness": 1},
    "qsofa": {"respiratory-rate": 4, "sbp": -20, "gcs": -1},
    "cha2ds2_vasc": {"age": 6},
    "has_bled": {"age": 5, "sbp": 20, "creatinine": 60},
    "findrisc": {"age": 6, "bmi": 3, "waist": 6, "family": 1},
    "charlson": {"age": 7},
}
"""Model to feature to a step in the direction in which the result never falls."""


def _worse(model: str, name: str, step: float, choices: int) -> tuple[list[Row], list[Row]]:
    """Random patients, and the same with one input made worse."""
    rows = _rows(model, 80, 7)
    if name not in RANGES and name != "creatinine":  # 0 and 1, or a choice that rises
        start = 1.0 if step < 0 else 0.0
        top = max(choices, 2) - 1
        rows = [row | {name: start if top == 1 else min(row[name], top - 1)} for row in rows]
    return rows, [
        row | {name: max(row[name] + step, 0.0 if abs(step) == 1 else 0.1)} for row in rows
    ]


@pytest.mark.parametrize("model", MONOTONE)
def test_worse_never_scores_less(model: str) -> None:
    package = load(SHIPPED / model)
    # The value of the index has no age in it, its last component has.
    first = package.features.output[-1 if model == "charlson" else 0].name
    choices = {f.name: len(f.choices) for f in package.features.feature}
    protective = {n for n in choices if n in ("active", "vegetables-daily")}
    flags = {f.name for f in package.features.feature if f.boolean} - protective
    steps = MONOTONE[model] | dict.fromkeys(flags, 1) | dict.fromkeys(protective, -1)
    pairs = {name: _worse(model, name, step, choices[name]) for name, step in steps.items()}
    found = iter(_run(model, [row for both in pairs.values() for rows in both for row in rows]))
    for name, (rows, _) in pairs.items():
        before, after = ([next(found)[first] for _ in rows] for _ in range(2))
        assert all(b >= a - 1e-9 for a, b in zip(before, after, strict=True)), name
        assert any(b > a for a, b in zip(before, after, strict=True)), name
