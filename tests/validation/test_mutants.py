"""Mutants of the official examples: found, and found at the right place, by both passes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.validation.validate import Validator

from .mutants import mutants
from .test_examples import INVALID, examples
from .test_robust import raised

RATE = 1.0


def judge(
    validator: Validator, files: list[Path], each: int, flip: bool = False
) -> tuple[Counter[str], list[str]]:
    """Counts of mutants by kind ("" = all, "found"), and the first misses.

    ``flip``: expect no issue instead.
    """
    counts: Counter[str] = Counter()
    misses: list[str] = []
    for file in files:
        resource = loads(file.read_bytes())
        for mutant in mutants(load(), resource, each):
            issues = validator.issues(resource)
            found = (mutant.expression, mutant.code) in {(i.expression, i.code) for i in issues}
            accepted = validator.surely(resource)
            assert not (accepted and issues), f"{file.stem}: the passes disagree: {mutant}"
            assert issues or accepted, f"{file.stem}: a doubt about a valid resource: {mutant}"
            assert raised(validator, resource) == issues
            counts.update(["", mutant.kind])
            if found is not flip:
                counts["found"] += 1
            else:
                misses.append(f"{file.stem} {mutant} {[i.diagnostics[:80] for i in issues[:2]]}")
    return counts, misses


def small(shared: Path) -> list[Path]:
    return [f for f in examples(shared) if f.stem not in INVALID and f.stat().st_size < 50_000]


@pytest.mark.parametrize("each", [1, pytest.param(15, marks=pytest.mark.slow)])
def test_mutants_are_found(validator: Validator, shared: Path, each: int) -> None:
    files = small(shared)
    counts, misses = judge(validator, files[::3] if each == 1 else files, each)
    print(f"{counts['found']} of {counts['']} mutants found at their place: {dict(counts)}")
    assert counts[""] > 800
    assert counts["found"] >= RATE * counts[""], "\n".join(misses[:20])


def test_flipped_expectations_go_red(validator: Validator, shared: Path) -> None:
    counts, misses = judge(validator, small(shared)[::20], 1, flip=True)
    assert counts["found"] < 0.01 * counts[""]
    assert len(misses) > 50
