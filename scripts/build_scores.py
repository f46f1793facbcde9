"""Builds the ONNX graphs of the published equations and point scores beside ``build_models.py``.

``python scripts/build_scores.py`` writes ``operations/models/<name>/model.onnx``. Points and
thresholds are tables here, as in the publications that the cards cite; coefficients are in
``risk_coefficients.json``. Conventions as in ``build_models.py``: float64, vectors ``[N]``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from build_models import HERE, MODELS, SEXES, Graph
from onnx import ModelProto, TensorProto

Steps = list[tuple[float, float]]
"""From this value on, so many points; ascending."""


def _flag(g: Graph, comparison: str, value: str, bound: float) -> str:
    """1 where ``value`` compares so with ``bound``, else 0."""
    return g.op("Cast", g.op(comparison, value, bound), to=TensorProto.DOUBLE)


def _steps(g: Graph, value: str, below: float, steps: Steps) -> str:
    """Points of a scale with rising bounds: ``below`` under the first of them."""
    terms, points = [g.const([below])], below
    for bound, reached in steps:
        terms.append(g.op("Mul", _flag(g, "GreaterOrEqual", value, bound), reached - points))
        points = reached
    return g.op("Sum", *terms)


def _round(g: Graph, value: str, scale: float = 1.0) -> str:
    """Half up, in units of 1/scale."""
    return g.op("Floor", g.op("Add", g.op("Mul", value, scale), 0.5))


def _either(g: Graph, *flags: str) -> str:
    return g.op("Max", *flags)


def _without(g: Graph, flag: str, *superseding: str) -> str:
    """``flag`` unless one of the others is set."""
    return g.op("Mul", flag, g.op("Sub", 1.0, _either(g, *superseding)))


def kfre_4(data: dict[str, Any]) -> ModelProto:
    """Kidney failure risk, four variables, at 2 and 5 years; both calibrations."""
    g, part = Graph("kfre-4"), data["KFRE-4"]
    centred = {
        "age": g.scaled(g.op("Div", g.feature("age"), 10.0), part["centre"]["age"], 1),
        "male": g.scaled(g.op("Sub", 1.0, g.feature("sex")), part["centre"]["male"], 1),
        "egfr": g.scaled(g.op("Div", g.feature("egfr"), 5.0), part["centre"]["egfr"], 1),
        "ln_acr": g.scaled(g.op("Log", g.feature("acr")), part["centre"]["ln_acr"], 1),
    }
    calibration = g.feature("calibration")
    weights = [g.const([part["beta"][name]]) for name in centred]
    hazard = g.op("Exp", g.dot(list(centred.values()), weights))
    for years in ("2y", "5y"):
        regions = ("north_american", "non_north_american")
        survival = g.pick([part["s0"][r][years] for r in regions], calibration)
        risk = g.op("Sub", 1.0, g.op("Pow", survival, hazard))
        g.output(f"kidney-failure-{years}", risk)
    return g.model()


def _framingham(g: Graph, part: dict[str, Any], measured: dict[str, str]) -> ModelProto:
    """1 - S0^exp(sum - mean); ``measured``: coefficient name to feature name."""
    sex = g.feature("sex")

    def weight(name: str) -> str:
        return g.pick([part[s][name] for s in SEXES], sex)

    terms = [g.op("Mul", weight(n), g.op("Log", g.feature(f))) for n, f in measured.items()]
    ln_sbp, treated = g.op("Log", g.feature("sbp")), g.feature("bp-treated")
    slopes = (weight("ln_sbp_treated"), weight("ln_sbp_untreated"))
    terms.append(g.op("Mul", ln_sbp, g.op("Where", g.op("Greater", treated, 0.5), *slopes)))
    terms += [g.op("Mul", weight(f), g.feature(f)) for f in ("smoker", "diabetes")]
    centred = g.op("Sub", g.op("Sum", *terms), weight("mean"))
    risk = g.op("Sub", 1.0, g.op("Pow", weight("s0"), g.op("Exp", centred)))
    g.output("cvd-10y", risk)
    return g.model()


def framingham(data: dict[str, Any]) -> ModelProto:
    """General cardiovascular disease within 10 years, with cholesterol."""
    measured = {"ln_age": "age", "ln_tc": "total-cholesterol", "ln_hdl": "hdl-cholesterol"}
    return _framingham(Graph("framingham"), data["Framingham-2008"], measured)


def framingham_bmi(data: dict[str, Any]) -> ModelProto:
    """General cardiovascular disease within 10 years, with body mass index."""
    measured = {"ln_age": "age", "ln_bmi": "bmi"}
    return _framingham(Graph("framingham-bmi"), data["Framingham-2008-BMI"], measured)


def meld_3(data: dict[str, Any]) -> ModelProto:
    """MELD 3.0: the score and the sum before rounding."""
    g, part = Graph("meld-3"), data["MELD-3.0"]
    beta, clamp = part["beta"], part["clamp"]

    def clamped(name: str) -> str:
        low, high = clamp[name]
        raised = g.op("Max", g.feature(name), float(low))
        return raised if high is None else g.op("Min", raised, float(high))

    female, age, dialysis = g.feature("sex"), g.feature("age"), g.feature("dialysis")
    ln_bilirubin, ln_inr = g.op("Log", clamped("bilirubin")), g.op("Log", clamped("inr"))
    dialysed = g.op("Greater", dialysis, 0.5)
    ln_creatinine = g.op("Log", g.op("Where", dialysed, g.const([3.0]), clamped("creatinine")))
    sodium = g.op("Sub", float(clamp["sodium"][1]), clamped("sodium"))
    albumin = g.op("Sub", float(clamp["albumin"][1]), clamped("albumin"))
    terms = {
        "female": _either(g, female, _flag(g, "Less", age, 18.0)),
        "ln_bilirubin": ln_bilirubin,
        "sodium": sodium,
        "sodium*ln_bilirubin": g.op("Mul", sodium, ln_bilirubin),
        "ln_inr": ln_inr,
        "ln_creatinine": ln_creatinine,
        "albumin": albumin,
        "albumin*ln_creatinine": g.op("Mul", albumin, ln_creatinine),
    }
    weights = [g.const([beta[name]]) for name in terms]
    raw = g.op("Add", g.dot(list(terms.values()), weights), float(part["constant"]))
    low, high = part["range"]
    g.output("meld-3", g.op("Min", g.op("Max", _round(g, raw), float(low)), float(high)))
    g.output("meld-3-raw", raw)
    return g.model()


def fib_4(data: dict[str, Any]) -> ModelProto:
    """age * AST / (platelets * sqrt(ALT)); years, U/L, 10*9/L."""
    g = Graph("fib-4")
    above = g.op("Mul", g.feature("age"), g.feature("ast"))
    below = g.op("Mul", g.feature("platelets"), g.op("Sqrt", g.feature("alt")))
    g.output("fib-4", g.op("Div", above, below))
    return g.model()


NEWS2_SCALES: Final[dict[str, tuple[float, Steps]]] = {
    "respiratory-rate": (3, [(9, 1), (12, 0), (21, 2), (25, 3)]),
    "systolic": (3, [(91, 2), (101, 1), (111, 0), (220, 3)]),
    "pulse": (3, [(41, 1), (51, 0), (91, 1), (111, 2), (131, 3)]),
    "temperature": (3, [(351, 1), (361, 0), (381, 1), (391, 2)]),  # tenths of a degree
    "scale-1": (3, [(92, 2), (94, 1), (96, 0)]),
    "scale-2 on air": (3, [(84, 2), (86, 1), (88, 0)]),
    "scale-2 on oxygen": (3, [(84, 2), (86, 1), (88, 0), (93, 1), (95, 2), (97, 3)]),
}
"""Royal College of Physicians 2017, chart 1: points from a value on, first those below all."""


def news2(data: dict[str, Any]) -> ModelProto:
    """The total, the points of each parameter and the clinical risk (0 low to 3 high)."""
    g = Graph("news2")
    g.feature("age")  # decides who is in the population, not the points
    names = ("respiratory-rate", "spo2", "sbp", "pulse")
    rate, spo2, sbp, pulse = (_round(g, g.feature(name)) for name in names)
    temperature = _round(g, g.feature("temperature"), 10)
    oxygen, scale_2 = g.feature("on-oxygen"), g.feature("spo2-scale")
    consciousness = g.feature("consciousness")
    given = g.op("Greater", oxygen, 0.5)
    saturations = {
        name: _steps(g, spo2, *NEWS2_SCALES[name]) for name in NEWS2_SCALES if "scale" in name
    }
    second = g.op("Where", given, saturations["scale-2 on oxygen"], saturations["scale-2 on air"])
    saturation = g.op("Where", g.op("Greater", scale_2, 0.5), second, saturations["scale-1"])
    points = {
        "respiration": _steps(g, rate, *NEWS2_SCALES["respiratory-rate"]),
        "saturation": saturation,
        "oxygen": g.op("Mul", oxygen, 2.0),
        "systolic": _steps(g, sbp, *NEWS2_SCALES["systolic"]),
        "pulse": _steps(g, pulse, *NEWS2_SCALES["pulse"]),
        "consciousness": g.op("Mul", consciousness, 3.0),
        "temperature": _steps(g, temperature, *NEWS2_SCALES["temperature"]),
    }
    total = g.op("Sum", *points.values())
    g.output("news2", total)
    single = _flag(g, "GreaterOrEqual", g.op("Max", *points.values()), 3.0)
    g.output("clinical-risk", g.op("Max", single, _steps(g, total, 0, [(5, 2), (7, 3)])))
    for name, value in points.items():
        g.output(f"{name}-points", value)
    return g.model()


def qsofa(data: dict[str, Any]) -> ModelProto:
    g = Graph("qsofa")
    g.feature("age")  # decides who is in the population, not the points
    rate = _flag(g, "GreaterOrEqual", g.feature("respiratory-rate"), 22.0)
    pressure = _flag(g, "LessOrEqual", g.feature("sbp"), 100.0)
    g.output("qsofa", g.op("Sum", rate, pressure, _flag(g, "Less", g.feature("gcs"), 15.0)))
    return g.model()


def cha2ds2_vasc(data: dict[str, Any]) -> ModelProto:
    g = Graph("cha2ds2-vasc")
    age = _steps(g, g.feature("age"), 0, [(65, 1), (75, 2)])
    singles = ("sex", "heart-failure", "hypertension", "diabetes", "vascular-disease")
    stroke = g.op("Mul", g.feature("stroke"), 2.0)
    g.output("cha2ds2-vasc", g.op("Sum", age, stroke, *(g.feature(name) for name in singles)))
    return g.model()


def has_bled(data: dict[str, Any]) -> ModelProto:
    """Renal also by creatinine: 200 umol/L (2.26 mg/dL) and over, as in the paper."""
    g = Graph("has-bled")
    singles = ("liver", "stroke", "bleeding", "labile-inr", "drugs", "alcohol")
    creatinine = _flag(g, "GreaterOrEqual", g.feature("creatinine"), 200.0)
    points = [
        _flag(g, "Greater", g.feature("sbp"), 160.0),
        _flag(g, "Greater", g.feature("age"), 65.0),
        _either(g, g.feature("renal"), creatinine),
        *(g.feature(name) for name in singles),
    ]
    g.output("has-bled", g.op("Sum", *points))
    return g.model()


def findrisc(data: dict[str, Any]) -> ModelProto:
    g = Graph("findrisc")
    bmi, waist = g.feature("bmi"), g.feature("waist")
    female = g.op("Greater", g.feature("sex"), 0.5)
    girths = [
        g.op("Add", g.op("Mul", _flag(g, "GreaterOrEqual", waist, low), 3.0), beyond)
        for low, high in ((80.0, 88.0), (94.0, 102.0))
        for beyond in [_flag(g, "Greater", waist, high)]
    ]
    obese = g.op("Mul", _flag(g, "Greater", bmi, 30.0), 2.0)
    points = [
        _steps(g, g.feature("age"), 0, [(45, 2), (55, 3), (65, 4)]),
        g.op("Add", _flag(g, "GreaterOrEqual", bmi, 25.0), obese),
        g.op("Where", female, *girths),
        g.op("Mul", g.op("Sub", 1.0, g.feature("active")), 2.0),
        g.op("Sub", 1.0, g.feature("vegetables-daily")),
        g.op("Mul", g.feature("bp-treated"), 2.0),
        g.op("Mul", g.feature("high-glucose"), 5.0),
        g.pick([0.0, 3.0, 5.0], g.feature("family")),
    ]
    g.output("findrisc", g.op("Sum", *points))
    return g.model()


CHARLSON: Final = {
    1: (
        "myocardial-infarction",
        "congestive-heart-failure",
        "peripheral-vascular-disease",
        "cerebrovascular-disease",
        "dementia",
        "chronic-pulmonary-disease",
        "connective-tissue-disease",
        "peptic-ulcer",
    ),
    2: ("hemiplegia", "renal-disease", "leukaemia", "lymphoma"),
    6: ("aids",),
}
"""Charlson 1987, weights of the diseases that nothing supersedes."""
SUPERSEDED: Final = (
    ("mild-liver-disease", 1, "severe-liver-disease", 3),
    ("diabetes", 1, "diabetes-complicated", 2),
    ("solid-tumour", 2, "metastatic-tumour", 6),
)


def charlson(data: dict[str, Any]) -> ModelProto:
    """The index of 1987, and with age points by both conventions in use."""
    g = Graph("charlson")
    age = g.feature("age")
    terms = [
        g.op("Mul", g.feature(name), float(weight))
        for weight, names in CHARLSON.items()
        for name in names
    ]
    for milder, low, graver, high in SUPERSEDED:
        grave = g.feature(graver)
        terms.append(g.op("Mul", _without(g, g.feature(milder), grave), float(low)))
        terms.append(g.op("Mul", grave, float(high)))
    index = g.op("Sum", *terms)
    g.output("charlson", index)
    for first in (50, 51):
        decades = [(float(first + 10 * i), float(i + 1)) for i in range(4)]
        g.output(f"charlson-age-{first}", g.op("Add", index, _steps(g, age, 0, decades)))
    return g.model()


BUILDERS: Final[tuple[Callable[[dict[str, Any]], ModelProto], ...]] = (
    kfre_4,
    framingham,
    framingham_bmi,
    meld_3,
    fib_4,
    news2,
    qsofa,
    cha2ds2_vasc,
    has_bled,
    findrisc,
    charlson,
)


def main() -> None:
    data = json.loads((HERE / "risk_coefficients.json").read_text(encoding="utf-8"))
    for build in BUILDERS:
        folder = MODELS / build.__name__
        folder.mkdir(exist_ok=True)
        path = folder / "model.onnx"
        path.write_bytes(build(data).SerializeToString(deterministic=True))
        print(f"{path.relative_to(HERE.parent)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
