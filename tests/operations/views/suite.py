"""The cases of SQL on FHIR v2 as data, and how one is judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.problem import Problem
from operations.views.definition import read_view
from operations.views.rows import Rows

Runner = Callable[[Any, Sequence[Any]], tuple[list[str], list[dict[str, Any]]]]
"""(view, resources) -> names of the columns, rows; raises Problem."""


@dataclass(frozen=True)
class Case:
    """``test``: as the file has it."""

    id: str
    resources: Sequence[Any]
    test: Any


def cases(folder: Path) -> list[Case]:
    found = []
    for file in sorted(folder.glob("*.json")):
        if file.name == "tests.schema.json":
            continue
        suite = loads(file.read_bytes())
        found += [
            Case(f"{file.stem}/{test['title']}", suite["resources"], test)
            for test in suite["tests"]
        ]
    return found


def in_process(view: Any, resources: Sequence[Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """The engine alone."""
    read = read_view(view, load().resource_types)
    rows, names = Rows(read), [column.name for column in read.columns]
    found = [row for resource in resources for row in rows.of(resource)]
    return names, [dict(zip(names, row, strict=True)) for row in found]


def fault(case: Case, run: Runner = in_process) -> str:
    """What is wrong, "" for a case that passes."""
    test = case.test
    try:
        names, rows = run(test["view"], case.resources)
    except Problem as problem:
        return "" if test.get("expectError") else f"refused: {problem}"
    if test.get("expectError"):
        return "not refused"
    if "expectCount" in test and len(rows) != test["expectCount"]:
        return f"{len(rows)} rows"
    if "expectColumns" in test and names != test["expectColumns"]:
        return f"columns {names}"
    if "expect" in test and _sorted(rows) != _sorted(test["expect"]):
        return f"rows {rows}"
    return ""


def flipped(case: Case) -> Case:
    """The case with another expectation: it must not pass."""
    test = dict(case.test)
    if test.pop("expectError", False):
        test["expect"] = []
    elif test.get("expect"):
        test["expect"] = test["expect"][1:]
    else:
        test["expectError"] = True
    return Case(case.id, case.resources, test)


def _sorted(rows: Sequence[Any]) -> list[str]:
    """In any order; numbers by their value."""
    return sorted(json.dumps(_plain(row), sort_keys=True) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return float(value)
    return value
