"""The long runs of R27 and of the fuzz by the OpenAPI document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.test_machine import lives
from tests.prove.conftest import Row, scaled
from tests.serving import BACKENDS, served

pytestmark = pytest.mark.prove


@pytest.mark.parametrize("backend", BACKENDS)
def test_r27_many_lives(backend: str, proven: Row) -> None:
    examples, seeded = scaled(1000), 2027
    crashing = ", with crashes" if backend == "sqlite" else ""
    lives(backend, seeded=seeded, max_examples=examples, stateful_step_count=60)
    proven(
        f"R27 {backend}",
        f"random lives beside a dictionary{crashing}; hypothesis, seed kept",
        f"{examples:,} lives of up to 60 steps, seed {seeded}",
        "the same answers at every step",
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_fuzz_of_many_types(tmp_path: Path, backend: str, proven: Row) -> None:
    fuzzing = pytest.importorskip("tests.security.test_fuzz")
    examples, seeded = scaled(20), 2026
    statuses: Counter[int] = Counter()
    with served(backend, tmp_path) as server:
        for type_ in ("", *fuzzing.TYPES):
            statuses += fuzzing.fuzz(server, type_, examples, seeded)
    proven(
        f"Fuzz {backend}",
        "requests made from the OpenAPI document, right and wrong, by schemathesis",
        f"{sum(statuses.values()):,} requests, seed {seeded}",
        "no 5xx but 501, an OperationOutcome with every refusal",
    )
