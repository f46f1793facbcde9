"""What stands between a trained version and its answers: the gate that its report tells of."""

from __future__ import annotations

import json
from typing import Final

from .package import ModelPackage

REPORT: Final = "report.json"


def gate_fault(package: ModelPackage) -> str:
    """Which conditions of its gate a version has not met; "" if there is no gate, or all are."""
    path = package.folder / REPORT
    if REPORT not in package.files or not path.is_file():
        return ""
    try:
        gate = json.loads(path.read_bytes()).get("gate", {})
        if gate.get("passed", True) is True:
            return ""
        missed = [str(row["name"]) for row in gate["conditions"] if row["passed"] is not True]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{REPORT} cannot be read ({type(error).__name__})"
    return ", ".join(missed) or "its report says so"
