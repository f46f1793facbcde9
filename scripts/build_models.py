"""Builds the ONNX graphs of the published risk equations from their coefficients.

``python scripts/build_models.py`` writes ``operations/models/<name>/model.onnx`` (float64,
opset 17). Every input and output is one double vector ``[N]``; the names are those of the
features and outputs in ``features.toml``. The graphs hold equations only: units, ranges and
who is in the population belong to the manifests and are enforced before a graph is run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "operations" / "models"
SEXES = ("male", "female")
REGIONS = ("low", "moderate", "high", "very high")
PREVENT_OUTCOMES = {
    "cvd": "total_cvd",
    "ascvd": "ascvd",
    "hf": "heart_failure",
    "chd": "chd",
    "stroke": "stroke",
}


class Graph:
    """Collects nodes; a value is the name of a tensor ``[N]`` of doubles."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def feature(self, name: str) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N"]))
        return name

    def output(self, name: str, value: str) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N"]))

    def const(self, value: Any, kind: type = np.float64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def op(self, kind: str, *operands: str | float, **attributes: Any) -> str:
        names = [v if isinstance(v, str) else self.const(v) for v in operands]
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [out], **attributes))
        return out

    def scaled(self, value: str, centre: float, unit: float) -> str:
        """(value - centre) / unit"""
        return self.op("Div", self.op("Sub", value, float(centre)), float(unit))

    def pick(self, table: list[float], index: str) -> str:
        """table[index] for each row."""
        return self.op("Gather", self.const(table), self.op("Cast", index, to=TensorProto.INT64))

    def column(self, value: str) -> str:
        """[N] -> [N, 1]"""
        return self.op("Unsqueeze", value, self.const([1], np.int64))

    def dot(self, terms: list[str], weights: list[str]) -> str:
        """sum of terms[i] * weights[i]"""
        return self.op("Sum", *(self.op("Mul", t, w) for t, w in zip(terms, weights, strict=True)))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, initializer=self.constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="vehr"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _score2_log_hazard(g: Graph, data: dict[str, Any], terms: dict[str, str], sex: str) -> str:
    """ln(-ln(1-r)) of the uncalibrated risk: lp - mean + ln(-ln S0)."""
    beta = data["beta"]
    names = ["age", "smk", "sbp", "tc", "hdl", "a_smk", "a_sbp", "a_tc", "a_hdl"]
    values = [terms[n] if n in terms else g.op("Mul", terms["age"], terms[n[2:]]) for n in names]
    weights = [g.pick([beta[s][n] for s in SEXES], sex) for n in names]
    base = [math.log(-math.log(beta[s]["s0"])) - beta[s].get("mlp", 0.0) for s in SEXES]
    return g.op("Add", g.dot(values, weights), g.pick(base, sex))


def _score2_risk(g: Graph, data: dict[str, Any], log_hazard: str, cell: str) -> str:
    """1 - exp(-exp(scale1 + scale2 * log_hazard)); ``cell`` = 2 * region + sex."""
    scales = [data["scales"][f"{r}|{s}"] for r in REGIONS for s in SEXES]
    scale1, scale2 = (g.pick([pair[i] for pair in scales], cell) for i in (0, 1))
    hazard = g.op("Exp", g.op("Add", scale1, g.op("Mul", scale2, log_hazard)))
    return g.op("Sub", 1.0, g.op("Exp", g.op("Neg", hazard)))


def score2(data: dict[str, Any]) -> onnx.ModelProto:
    """SCORE2 below 70 years and SCORE2-OP from 70, all four regions in one graph."""
    g = Graph("score2")
    age, sex, smoker = g.feature("age"), g.feature("sex"), g.feature("smoker")
    sbp, tc = g.feature("sbp"), g.feature("total-cholesterol")
    hdl, region = g.feature("hdl-cholesterol"), g.feature("region")
    cell = g.op("Add", g.op("Mul", region, 2.0), sex)
    young = {
        "age": g.scaled(age, 60, 5),
        "smk": smoker,
        "sbp": g.scaled(sbp, 120, 20),
        "tc": g.scaled(tc, 6, 1),
        "hdl": g.scaled(hdl, 1.3, 0.5),
    }
    old = {
        "age": g.scaled(age, 73, 1),
        "smk": smoker,
        "sbp": g.scaled(sbp, 150, 1),
        "tc": g.scaled(tc, 6, 1),
        "hdl": g.scaled(hdl, 1.4, 1),
    }
    risks = [
        _score2_risk(g, part, _score2_log_hazard(g, part, terms, sex), cell)
        for part, terms in ((data["SCORE2-OP"], old), (data["SCORE2"], young))
    ]
    g.output("cvd-10y", g.op("Where", g.op("GreaterOrEqual", age, 70.0), *risks))
    return g.model()


def _prevent_terms(g: Graph) -> dict[str, str]:
    age, tc, hdl = g.feature("age"), g.feature("total-cholesterol"), g.feature("hdl-cholesterol")
    sbp, bmi, egfr = g.feature("sbp"), g.feature("bmi"), g.feature("egfr")
    terms = {
        "age": g.scaled(age, 55, 10),
        "non_hdl": g.scaled(g.op("Mul", g.op("Sub", tc, hdl), 0.02586), 3.5, 1),
        "hdl": g.scaled(g.op("Mul", hdl, 0.02586), 1.3, 0.3),
        "sbp_lt110": g.scaled(g.op("Min", sbp, 110.0), 110, 20),
        "sbp_ge110": g.scaled(g.op("Max", sbp, 110.0), 130, 20),
        "bmi_lt30": g.scaled(g.op("Min", bmi, 30.0), 25, 5),
        "bmi_ge30": g.scaled(g.op("Max", bmi, 30.0), 30, 5),
        "egfr_lt60": g.scaled(g.op("Min", egfr, 60.0), 60, -15),
        "egfr_ge60": g.scaled(g.op("Max", egfr, 60.0), 90, -15),
        "dm": g.feature("diabetes"),
        "smoking": g.feature("smoker"),
        "bp_tx": g.feature("bp-treated"),
        "statin": g.feature("statin"),
    }
    terms["age^2"] = g.op("Mul", terms["age"], terms["age"])
    return terms


def _columns(part: dict[str, Any], sex: str) -> Any:
    """The coefficients of one sex as a matrix [terms, outcomes]."""
    return np.array([part[f"{sex}_{column}"] for column in PREVENT_OUTCOMES.values()]).T


def prevent(data: dict[str, Any]) -> onnx.ModelProto:
    """PREVENT base: five outcomes at 10 and at 30 years."""
    g, part = Graph("prevent"), data["PREVENT-base"]
    terms, sex = _prevent_terms(g), g.feature("sex")
    for name in part["terms_10y"]:
        if "*" in name:
            terms[name] = g.op("Mul", *(terms[f] for f in name.split("*")))
    terms["constant"] = g.op("Add", g.op("Mul", sex, 0.0), 1.0)
    female = g.column(g.op("Greater", sex, 0.5))
    for years in ("10y", "30y"):
        row = g.op("Concat", *(g.column(terms[n]) for n in part[f"terms_{years}"]), axis=1)
        sums = [g.op("MatMul", row, g.const(_columns(part[years], s))) for s in ("female", "male")]
        risks = g.op("Sigmoid", g.op("Where", female, *sums))
        for i, outcome in enumerate(PREVENT_OUTCOMES):
            g.output(f"{outcome}-{years}", g.op("Gather", risks, g.const(i, np.int64), axis=1))
    return g.model()


def ckd_epi_2021(data: dict[str, Any]) -> onnx.ModelProto:
    """eGFR in mL/min/1.73 m2 from serum creatinine (mg/dL), age and sex."""
    g, part = Graph("ckd-epi-2021"), data["CKD-EPI-2021"]
    age, sex, creatinine = g.feature("age"), g.feature("sex"), g.feature("creatinine")
    k, alpha, factor = (g.pick([part[s][n] for s in SEXES], sex) for n in ("k", "alpha", "factor"))
    ratio = g.op("Div", creatinine, k)
    low = g.op("Pow", g.op("Min", ratio, 1.0), alpha)
    high = g.op("Pow", g.op("Max", ratio, 1.0), float(part["exponent"]))
    aged = g.op("Pow", float(part["age_base"]), age)
    scaled = g.op("Mul", g.op("Mul", low, high), g.op("Mul", aged, factor))
    g.output("egfr", g.op("Mul", scaled, float(part["scale"])))
    return g.model()


def main() -> None:
    data = json.loads((HERE / "risk_coefficients.json").read_text(encoding="utf-8"))
    for build in (score2, prevent, ckd_epi_2021):
        path = MODELS / build.__name__ / "model.onnx"
        path.write_bytes(build(data).SerializeToString(deterministic=True))
        print(f"{path.relative_to(HERE.parent)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
