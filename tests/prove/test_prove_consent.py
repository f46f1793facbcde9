"""L70 at length: the differential fuzzer on the two worlds; and L53 by the clock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from pathlib import Path
from shutil import rmtree
from statistics import median
from time import process_time

import pytest

from tests.consent.fuzzing import differences
from tests.consent.worlds import twins
from tests.consent.writing import differing, numbered
from tests.prove.batches import Batches
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

BATCH = 2000
"""Requests on one pair of servers."""
OFTEN = {"memory": 1_000_000, "sqlite": 100_000}


@pytest.mark.parametrize("backend", OFTEN)
def test_l70_the_answers_are_those_of_the_twin(backend: str, tmp_path: Path, proven: Row) -> None:
    batches = Batches(f"L70 {backend}", scaled(OFTEN[backend]), BATCH)
    for first, often in batches.todo():
        with twins(backend, tmp_path / str(first)) as pair:
            found, seen = differences(pair, often, 10_000 + first)
        assert [str(asked) for asked in found] == []
        assert 401 not in seen, "without a token nothing is proved"
        batches.finished(first, Counter({str(status): many for status, many in seen.items()}))
        rmtree(tmp_path / str(first), ignore_errors=True)
        _tell_reads(f"L70 {backend}", batches, proven)
    _tell_reads(f"L70 {backend}", batches, proven)


def _tell_reads(name: str, batches: Batches, proven: Row) -> None:
    statuses = batches.total()
    proven(
        name,
        "generated requests of a reader from whom something is hidden, to a server with"
        " everything and to one that never held it",
        f"{statuses.total():,} requests",
        f"0 differences in status, headers, body; {_told(statuses)}",
    )


def _told(statuses: Counter[str]) -> str:
    return ", ".join(f"{status}: {often:,}" for status, often in sorted(statuses.items()))


WRITES = 400
"""Requests on one pair of servers that writes use up."""


WRITTEN = {"memory": 100_000, "sqlite": 20_000, "mongo": 4_000}


@pytest.mark.parametrize("backend", WRITTEN)
def test_l70_writes_are_answered_as_by_the_twin(backend: str, tmp_path: Path, proven: Row) -> None:
    name = "L70 writes" if backend == "memory" else f"L70 writes {backend}"
    batches = Batches(name, scaled(WRITTEN[backend]), WRITES)
    for first, often in batches.todo():
        with numbered(backend, tmp_path / str(first)) as pair:
            found, seen, done = differing(pair, often, 20_000 + first)
        assert found == []
        assert 401 not in seen, "without a token nothing is proved"
        counts = Counter({str(status): many for status, many in seen.items()})
        batches.finished(first, counts + Counter(accepted=done))
        rmtree(tmp_path / str(first), ignore_errors=True)
        _tell_writes(name, batches, proven)
    _tell_writes(name, batches, proven)


def _tell_writes(name: str, batches: Batches, proven: Row) -> None:
    statuses = batches.total()
    accepted = statuses.pop("accepted", 0)
    proven(
        name,
        "generated reads and writes (PUT, PATCH, DELETE, conditional, Bundles) of such a"
        " reader; then all that the reader sees, and the hidden things, are compared",
        f"{statuses.total():,} requests, {accepted:,} writes accepted",
        f"0 differences, nothing hidden was changed; {_told(statuses)}",
    )


PAIRS = 2000
TELLING = 0.33
"""Cliff's delta from which on an effect is called medium, not small (Romano 2006). The statements
are the same (``test_same_work``), but a row that is hidden is looked at and one that is not there
is not: that is all of the difference."""
TIMED = {
    "L53 read": ("Observation/h1", "Observation/u1"),
    "L53 version": ("Observation/h1/_history/1", "Observation/u1/_history/1"),
    "L53 _has": (
        "Patient?_has:Observation:patient:code=25836-8",
        "Patient?_has:Observation:patient:code=25836-9",
    ),
}


@pytest.mark.parametrize("name", TIMED)
def test_l53_the_time_tells_nothing(name: str, tmp_path: Path, proven: Row) -> None:
    """Interleaved, each half of the pairs in the other order; CPU time, so that others who use
    the machine do not hide the difference."""
    count = scaled(PAIRS)
    with twins("sqlite", tmp_path) as (whole, _):
        taken: tuple[list[float], list[float]] = ([], [])
        for turn in range(count + 50):
            for which in (0, 1) if turn % 2 else (1, 0):
                begun = process_time()
                whole.server.get(TIMED[name][which], headers=whole.doctor)
                if turn >= 50:
                    taken[which].append(process_time() - begun)
    others = sorted(taken[1])
    above = sum(bisect_left(others, one) for one in taken[0])
    below = sum(count - bisect_right(others, one) for one in taken[0])
    delta = (above - below) / count**2
    middle = [median(one) * 1e6 for one in taken]
    assert abs(delta) < TELLING, (delta, middle)
    proven(
        name,
        "CPU time of answers about what is hidden and what was never there, interleaved",
        f"{count:,} pairs",
        f"Cliff's delta {delta:+.3f} (telling from {TELLING}); median {middle[0]:,.0f} us and"
        f" {middle[1]:,.0f} us",
    )
