"""The long runs: R01, R04, R06, R07, and a big fuzz. ``PROVE=0.1 make prove`` does a tenth."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.injected import BROKEN, injected, strace_works
from tests.faults.killing import kill_at_point, kill_at_random
from tests.faults.mutating import mutated
from tests.faults.points import POINTS
from tests.faults.racing import conditional_creates, increments
from tests.faults.running import running
from tests.prove.conftest import Row, scaled
from tests.serving import served

pytestmark = pytest.mark.prove

BATCH = 50
"""Kills on one data directory before it is checked and a new one is begun."""


def test_r01_random_kills(tmp_path: Path, proven: Row) -> None:
    kills, sums = scaled(2000), Counter[str]()
    for batch in range(0, kills, BATCH):
        some = min(BATCH, kills - batch)
        sums.update(asyncio.run(kill_at_random(tmp_path / f"d{batch}", some, seed=1000 + batch)))
        proven(
            "R01 random",
            "kill -9 at a random instant under create, update, delete and transaction load",
            f"{sums['kills']:,} kills",
            f"{sums['ok']:,} acknowledged, 0 lost, 0 torn; {sums['unknown']:,} unanswered",
        )


@pytest.mark.parametrize("point", POINTS)
def test_r01_named_points(tmp_path: Path, proven: Row, point: str) -> None:
    found = asyncio.run(kill_at_point(tmp_path / "data", point, scaled(100), seed=7))
    proven(
        f"R01 {point}",
        "the server kills itself at this instant of a commit under the same load",
        f"{found['kills']:,} kills",
        f"{found['ok']:,} acknowledged, 0 lost, 0 torn; {found['unknown']:,} unanswered",
    )


@pytest.mark.skipif(not strace_works(), reason="strace cannot inject faults here")
@pytest.mark.parametrize("fault", BROKEN)
def test_r04_faults_of_the_disk(tmp_path: Path, proven: Row, fault: str) -> None:
    runs, sums = scaled(20), Counter[str]()
    for number in range(runs):
        sums.update(asyncio.run(injected(tmp_path / f"d{number}", BROKEN[fault], seed=number)))
    proven(
        f"R04 {fault}",
        "the system call fails under load (injected), once or from then on",
        f"{runs:,} runs, {sums['refused']:,} requests refused",
        f"{sums['ok']:,} acknowledged, 0 lost, 0 torn",
    )


def test_r06_conditional_create(tmp_path: Path, proven: Row) -> None:
    clients, rounds = 64, scaled(100)
    with running(tmp_path / "data", "--open") as server:
        found = asyncio.run(conditional_creates(server.base, clients, rounds))
    proven(
        "R06",
        "conditional create of one and the same resource by 64 clients at once",
        f"{rounds:,} rounds",
        f"{found[201]:,} created, {found[200]:,} found, 0 duplicates",
    )


def test_r07_lost_update(tmp_path: Path, proven: Row) -> None:
    each = scaled(20)
    with running(tmp_path / "data", "--open") as server:
        found = asyncio.run(increments(server.base, 32, each))
    proven(
        "R07",
        "32 clients read, add one and PUT with If-Match",
        f"{32 * each:,} increments",
        f"0 lost; {found[412]:,} stale ones answered 412",
    )


def test_fuzz_of_bodies(tmp_path: Path, proven: Row, shared: Path) -> None:
    examples = sorted((shared / "conformance" / "examples").glob("*.json"))
    examples = [path for path in examples if path.stat().st_size < 30_000]
    assert len(examples) > 100
    chance, statuses = random.Random(9), Counter[int]()
    with served("sqlite", tmp_path) as server:
        for _ in range(scaled(50_000)):
            resource = json.loads(chance.choice(examples).read_bytes())
            if not isinstance(resource, dict) or "resourceType" not in resource:
                continue
            content = mutated(resource, chance)
            headers = {"content-type": "application/fhir+json"}
            url = str(resource["resourceType"])
            answer = server.send("POST", url, content=content, headers=headers)
            assert answer.status_code < 500 or answer.status_code == 501, content
            statuses[answer.status_code] += 1
    proven(
        "fuzz",
        "mutated example resources are posted: swapped values, flipped, cut and doubled bytes",
        f"{sum(statuses.values()):,} bodies",
        "no 5xx; " + ", ".join(f"{status}: {n:,}" for status, n in sorted(statuses.items())),
    )
