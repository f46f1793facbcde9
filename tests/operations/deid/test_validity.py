"""The output is FHIR: what was valid stays valid, in every type."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
from test_canary import TYPES, YEAR, instances, safe_harbor, shipped

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.validation.validate import Validator
from operations.deid.keys import ProjectKey
from operations.deid.run import Run

VALIDATOR = Validator(load(), max_issues=10_000)
INVARIANT = re.compile(r"\([a-z]+-\d+[a-z]?\)$")


def errors(resource: Json) -> set[str]:
    return {i.diagnostics for i in VALIDATOR.issues(resource) if i.severity == "error"}


def new_errors(type_: str, variants: int) -> set[str]:
    """Maximal instances break invariants by having everything at once: those are left out."""
    new: set[str] = set()
    for _, resource in islice(instances(type_, valid=True), variants):
        output = safe_harbor().resource(resource, Run(YEAR))
        found = {error for error in errors(output) if not INVARIANT.search(error)}
        new |= found and found - errors(resource)
    return new


@pytest.mark.parametrize("type_", TYPES)
def test_nothing_structural_breaks(type_: str) -> None:
    assert not new_errors(type_, variants=1)


@pytest.mark.slow
@pytest.mark.parametrize("type_", TYPES)
def test_nothing_structural_breaks_in_any_choice(type_: str) -> None:
    assert not new_errors(type_, variants=100)


@pytest.mark.parametrize(
    "code",
    [
        "safe-harbor",
        *(pytest.param(code, marks=pytest.mark.slow) for code in ("limited", "research")),
    ],
)
def test_official_examples_stay_valid_with_their_invariants(shared: Path, code: str) -> None:
    files = sorted((shared / "conformance" / "examples").glob("*.json"))
    assert len(files) > 300
    for file in files:
        resource = loads(file.read_bytes())
        run = Run(YEAR, key=ProjectKey("study", 1, b"k" * 32))
        run.learn(resource)
        found = errors(shipped(code).resource(resource, run))
        assert not found or not found - errors(resource), file.name
