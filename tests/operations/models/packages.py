"""Small model packages made for tests: archives of a graph with its manifests."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from typing import Any

import odd_graphs
from onnx import ModelProto

CARD = """
name = "{name}"
version = "{version}"
title = "Test model"
result = "RiskAssessment"
intended_use = "Tests only."
population = "Nobody."
training_data = "None."
licence = "As this project."
limits = ["It says nothing."]
{more}
[source]
citation = "None."
url = "https://example.org/model"

[[metric]]
name = "none"
value = "none"
source = "none"
"""
FEATURES = """
[[feature]]
name = "x"
title = "Systolic blood pressure"
kind = "quantity"
codes = [["http://loinc.org", "8480-6"]]
unit = "mm[Hg]"
lookback = "P5Y"
plausible = [60, 270]

[[output]]
name = "y"
title = "Something"
years = 10
"""


def parts(
    name: str = "test-model",
    version: str = "1.0.0",
    graph: ModelProto | None = None,
    more: str = "",
    expected: float | None = None,
    two: bool = False,
    **changed: bytes,
) -> dict[str, bytes]:
    """The files of a package whose graph, unless another one is given, is y = x / 1000.
    ``two``: golden vectors. ``changed``: contents by name, ``_`` for the dot."""
    model = graph if graph is not None else odd_graphs.scaled(0.001)
    vector = {
        "inputs": {"x": 120},
        "expected": {"y": 0.12 if expected is None else expected},
        "tolerance": 1e-9,
        "kind": "exact",
        "source": "computed by hand",
    }
    further = vector | {"inputs": {"x": 140}, "expected": {"y": 0.14}}
    files = {
        "model.onnx": model.SerializeToString(),
        "card.toml": CARD.format(name=name, version=version, more=more).encode(),
        "features.toml": FEATURES.encode(),
        "golden.json": json.dumps([vector, further] if two else [vector]).encode(),
    }
    return files | {key.replace("_", "."): value for key, value in changed.items()}


def zipped(files: dict[str, bytes], folder: str = "") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return target.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", extra: Any = None) -> bytes:
    """``extra``: a TarInfo that is added as it is."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if extra is not None:
            archive.addfile(extra)
    return target.getvalue()


def pressure(patient: str, systolic: float) -> dict[str, Any]:
    """A systolic blood pressure of a patient, which the features of ``parts`` read."""
    return {
        "resourceType": "Observation",
        "id": patient,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-05-01",
        "valueQuantity": {
            "value": systolic,
            "unit": "mm[Hg]",
            "system": "http://unitsofmeasure.org",
            "code": "mm[Hg]",
        },
    }
