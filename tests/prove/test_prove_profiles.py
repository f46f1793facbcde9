"""Profile validation at length: every mutant of every example of the guides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prove.conftest import Row
from tests.validation.profile.mutating import rate

pytestmark = pytest.mark.prove


def test_every_mutant_of_the_guides(shared: Path, proven: Row) -> None:
    told = rate(shared)
    kinds = ", ".join(f"{kind} {told.found[kind]:,}/{n:,}" for kind, n in told.made.items())
    assert told.share >= 0.99, "\n".join(told.missed[:40])
    proven(
        "profiles mutants",
        "rules of the profiles of US Core 6.1, IPS 1.1, IPA 1.0, broken one by one in examples; "
        "found: an issue of that severity at the right expression",
        f"{told.made.total():,} mutants of {len(told.rules):,} rules",
        f"{told.share:.2%} found ({kinds})",
    )
