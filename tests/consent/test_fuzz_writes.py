"""L46 to L51, L70: generated writes of a reader from whom something is hidden are answered as by
the twin, and leave the same world behind; the mutants of what writes pass are caught.
"""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from fhir_server.access import references, unmasking, writing
from tests.consent.mutating import mutated
from tests.consent.writing import differing, numbered
from tests.serving import BACKENDS

OFTEN = {"memory": 1200, "sqlite": 400, "mongo": 100}
ROUND = 400
"""Requests on one pair of worlds: writes use them up."""
QUICK = 200
SEED = 5000


def none_tells(backend: str, folder: Path, often: int, seed: int) -> None:
    for place in range(0, often, ROUND):
        with numbered(backend, folder / str(place)) as pair:
            found, statuses, accepted = differing(pair, min(ROUND, often - place), seed + place)
        assert found == []
        assert accepted > min(ROUND, often - place) / 15 and max(statuses) < 500, statuses


def test_l70_some_generated_writes(tmp_path: Path) -> None:
    none_tells("memory", tmp_path, QUICK, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_l70_no_generated_write_tells(backend: str, tmp_path: Path) -> None:
    none_tells(backend, tmp_path, OFTEN[backend], SEED + 1)


MUTANTS: dict[str, tuple[types.ModuleType, str, str]] = {
    "hidden is known": (writing, "return living and found", "return living"),
    "references not checked": (references, "    if issues:", "    if False:"),
    "urls not checked": (references, "if masking.may_hide", "if False and masking.may_hide"),
    "hidden members tell": (
        unmasking,
        "set(engine.extract(masked).patients)",
        "set(engine.extract(whole).patients)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_l70_catches_each_mutant_of_writes(name: str, tmp_path: Path) -> None:
    with mutated(*MUTANTS[name]):
        for turn in range(8):
            with numbered("memory", tmp_path / str(turn)) as pair:
                found, _, _ = differing(pair, ROUND, SEED + 100 + turn)
            if found:
                return
    raise AssertionError(f"{name} survives")
