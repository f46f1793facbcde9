"""L70 at length: the differential fuzzer on the two worlds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.consent.fuzzing import differences
from tests.consent.worlds import twins
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

BATCH = 2000
"""Requests on one pair of servers."""
OFTEN = {"memory": 1_000_000, "sqlite": 100_000}


@pytest.mark.parametrize("backend", OFTEN)
def test_l70_the_answers_are_those_of_the_twin(backend: str, tmp_path: Path, proven: Row) -> None:
    count, statuses = scaled(OFTEN[backend]), Counter[int]()
    for batch in range(0, count, BATCH):
        with twins(backend, tmp_path / str(batch)) as pair:
            found, seen = differences(pair, min(BATCH, count - batch), 10_000 + batch)
        assert [str(asked) for asked in found] == []
        statuses.update(seen)
        told = ", ".join(f"{status}: {often:,}" for status, often in sorted(statuses.items()))
        proven(
            f"L70 {backend}",
            "generated requests of a reader from whom something is hidden, to a server with"
            " everything and to one that never held it",
            f"{sum(statuses.values()):,} requests",
            f"0 differences in status, headers, body; {told}",
        )
