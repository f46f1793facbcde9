"""T12: patches that would make much of little are refused before they do."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.interactions.patches import json_patch
from fhir_server.interactions.patches.fhirpath_patch import LEAST_STEPS, STEPS
from fhir_server.interactions.patches.nesting import deeper
from fhir_server.model.problem import BadRequest
from tests.serving import Server, issue

JSON_PATCH = {"content-type": "application/json-patch+json"}
PATIENT: dict[str, Any] = {"resourceType": "Patient", "name": [{"family": "a" * 1000}]}


def doubling(times: int) -> list[dict[str, str]]:
    """Each turn holds all that the last one held twice."""
    return [
        operation
        for turn in range(times)
        for operation in (
            {"op": "copy", "from": "/name", "path": f"/x{turn}"},
            {"op": "copy", "from": f"/x{turn}", "path": "/name/-"},
        )
    ]


def test_t12_copies_of_copies(server: Server) -> None:
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    answer = server.send("PATCH", url, json=doubling(40), headers=JSON_PATCH)
    assert answer.status_code == 400 and issue(answer)["code"] == "too-costly"
    assert server.get(url).json() == made
    copied = [{"op": "copy", "from": "/name/0", "path": "/name/-"}] * 20
    answer = server.send("PATCH", url, json=copied, headers=JSON_PATCH)
    assert answer.status_code == 200 and len(answer.json()["name"]) == 21


def test_t12_the_input_stays_as_it_is() -> None:
    before = {"resourceType": "Patient", "name": [{"family": "a"}]}
    copied = [{"op": "copy", "from": "/name/0", "path": "/name/-"}]
    after = json_patch.apply_operations(before, [*copied, {"op": "remove", "path": "/name/0"}])
    assert before["name"] == after["name"] == [{"family": "a"}]
    with pytest.raises(BadRequest, match="copies too much"):
        long = {"name": ["a" * 1_000_000]}
        json_patch.apply_operations(
            long, [{"op": "copy", "from": "/name/0", "path": "/name/-"}] * 11
        )


@pytest.mark.parametrize("levels", [80, 900])
def test_t12_levels_upon_levels(server: Server, levels: int) -> None:
    """A body nests 64 levels at most, and so does what a patch makes of it."""
    made = server.create(PATIENT | {"extension": [{"url": "urn:x", "valueString": "x"}]})
    operations: list[dict[str, Any]] = []
    path = "/extension"
    for _ in range(levels):
        value = {"url": "urn:x", "extension": []}
        operations.append({"op": "add", "path": f"{path}/-", "value": value})
        path += "/0/extension" if len(operations) > 1 else "/1/extension"
    answer = server.send("PATCH", f"Patient/{made['id']}", json=operations, headers=JSON_PATCH)
    assert answer.status_code == 422, answer.text[:300]
    assert "deep" in issue(answer)["diagnostics"]
    assert deeper([[[1]]], 2) and not deeper([[[1]]], 3)


def test_t12_paths_that_multiply(server: Server) -> None:
    """A budget is of the patch: many operations have no more than one."""
    made = server.create(PATIENT)
    path = "Patient.descendants()" + ".select(%resource.descendants())" * 8 + ".first()"
    parts = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": path}]
    for count, steps in ((1, STEPS), (20, STEPS // 20), (900, LEAST_STEPS)):
        operations = [{"name": "operation", "part": parts}] * count
        patch = {"resourceType": "Parameters", "parameter": operations}
        answer = server.send("PATCH", f"Patient/{made['id']}", json=patch)
        assert answer.status_code == 400
        assert f"More than {steps} steps" in issue(answer)["diagnostics"]
