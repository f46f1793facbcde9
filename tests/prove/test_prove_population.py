"""Every champion on every synthetic patient: a result, or the reason for none, of each."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.prove.conftest import Row

pytestmark = pytest.mark.prove

OPERATIONS = Path(__file__).resolve().parents[1] / "operations"


def test_each_model_answers_or_says_why(
    shared: Path, monkeypatch: pytest.MonkeyPatch, proven: Row
) -> None:
    monkeypatch.syspath_prepend(str(OPERATIONS))
    tests: Any = importlib.import_module("test_predict_population")
    empty, models = tests.World([]), len(tests.Road.models.names())
    for name, count in (("Synthea", 300), ("clinosim", 246)):
        seen: Counter[str] = Counter()
        patients = 0
        for patient in getattr(tests, name.lower())(shared, count):
            given = patient if name == "clinosim" else [e["resource"] for e in patient["entry"]]
            bundle = (
                patient
                if name == "Synthea"
                else {
                    "resourceType": "Bundle",
                    "type": "collection",
                    "entry": [{"resource": one} for one in given],
                }
            )
            asked = tests.parameters(data=bundle, asOf=tests.last(given))
            tests.accounted(tests.predict([], asked, level="type", world=empty), seen)
            patients += 1
        assert patients == count
        shares = ", ".join(f"{model} {n}" for model, n in sorted(seen.items()))
        proven(
            f"models on {name}",
            "every champion on every patient at the newest observation",
            f"{patients} patients, {models} models",
            f"each has a result or an issue that names it and why; results: {shares}",
        )
