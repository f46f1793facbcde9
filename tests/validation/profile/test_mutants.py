"""What is broken is found: mutants of every rule of the profiles (the whole is in make prove)."""

from __future__ import annotations

from pathlib import Path

from tests.validation.profile.mutating import rate
from tests.validation.profile.mutations import KINDS

EVERY = 16


def test_mutants_are_found_where_they_are_wrong(shared: Path) -> None:
    told = rate(shared, EVERY)
    print(dict(told.made), f"{told.share:.2%}")
    assert told.made.total() > 200 and told.made.keys() <= set(KINDS)
    assert told.share >= 0.99, "\n".join(told.missed[:20])


def test_without_profiles_they_are_not(shared: Path) -> None:
    """So that the profiles are what finds them."""
    told = rate(shared, EVERY * 2, profiles=False)
    assert told.made["slice"] + told.made["value"] > 5
    assert told.found["slice"] + told.found["value"] == 0
