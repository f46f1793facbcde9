"""The long runs under load: R02, R08, R12, R26."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.faults.check import check
from tests.faults.crowding import Crowd, crowded, flat, left, room_for, well
from tests.faults.large import binary, group, versions
from tests.faults.load import Load
from tests.faults.running import Running, running, until
from tests.faults.test_linear import registers
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

KILLS = 20
"""Workers killed before a data directory is checked and a new one is begun."""


async def kill_workers(server: Running, kills: int, seed: int) -> dict[str, int]:
    """Half of the times the writer, under load."""
    chance, load = random.Random(seed), Load(server.base, clients=8, seed=seed)
    for _ in range(kills):
        await asyncio.to_thread(until, lambda: len(server.workers()) == 3, 120)
        await asyncio.sleep(chance.uniform(0, 1.5))
        writer, workers = server.writer(), server.workers()
        victim = writer if writer is not None and chance.random() < 0.5 else chance.choice(workers)
        os.kill(victim, signal.SIGKILL)
        before = len(load.told.ok)
        await asyncio.to_thread(until, lambda before=before: len(load.told.ok) > before, 60)
        await asyncio.sleep(6)  # within the budget of restarts
    told = await load.stop()
    assert set(told.statuses) <= {200, 201, 204, 503}, told.statuses
    server.stop()
    return await check(server.data, told) | {"kills": kills}


def test_r02_workers_are_killed(tmp_path: Path, proven: Row) -> None:
    kills, sums = scaled(200), Counter[str]()
    for batch in range(0, kills, KILLS):
        with running(tmp_path / str(batch), "--workers", "3", "--open") as server:
            some = min(KILLS, kills - batch)
            sums.update(asyncio.run(kill_workers(server, some, seed=batch)))
    proven(
        "R02",
        "one of 3 workers, often the writer, is killed under load",
        f"{sums['kills']:,} kills",
        f"{sums['ok']:,} acknowledged, 0 lost, 0 torn; {sums['unknown']:,} unanswered",
    )


def test_r08_linearizable(tmp_path: Path, proven: Row) -> None:
    rounds, sums = scaled(20), Counter[str]()
    for number in range(rounds):
        with running(tmp_path / str(number), "--workers", "3", "--open") as server:
            sums.update(asyncio.run(registers(server, 20, kills=3, seed=number)))
    proven(
        "R08",
        "8 clients read and write 3 registers on 3 workers, the writer is killed 3 times a round",
        f"{rounds:,} rounds of 20 s",
        f"{sums['operations']:,} operations, {sums['versions']:,} versions: all linearizable",
    )


def test_r12_ten_thousand_connections(tmp_path: Path, proven: Row) -> None:
    count, seconds = room_for(10_000), scaled(60)

    async def crowd(server: Running) -> Crowd:
        found = await crowded(server, count, count // 10, seconds, seed=12)
        await left(found)
        return found

    with running(tmp_path / "d", "--open", VEHR_IDLE_SECONDS="3600") as server:
        found = asyncio.run(crowd(server))
    well(found)
    most = max(one.memory for one in found.samples) / 2**20
    proven(
        "R12 connections",
        f"{count:,} open connections, {count // 10:,} of them busy",
        f"{seconds:,} s, {sum(found.statuses.values()):,} requests",
        f"no 5xx but {found.statuses[503]:,} shed early; p99 {found.slowest(0.99) * 1000:,.0f} ms,"
        f" /health at most {max(found.health) * 1000:,.0f} ms, memory at most {most:,.0f} MiB",
    )


def test_r12_soak(tmp_path: Path, proven: Row) -> None:
    seconds = scaled(1800)

    async def crowd(server: Running) -> Crowd:
        found = await crowded(server, 50, 50, seconds, seed=13)
        await left(found)
        return found

    with running(tmp_path / "d", "--open") as server:
        found = asyncio.run(crowd(server))
    well(found)
    flat(found.samples)
    last = found.samples[-2]
    proven(
        "R12 soak",
        "50 clients read and write without a pause: memory, open files and log stay flat",
        f"{seconds:,} s, {sum(found.statuses.values()):,} requests",
        f"no 5xx; at the end {last.memory / 2**20:,.0f} MiB, {last.files} files,"
        f" log {last.log / 2**20:,.0f} MiB",
    )


LARGE = {
    "R26 versions": (partial(versions, count=100_000), "one resource has so many versions"),
    "R26 Group": (partial(group, count=1_000_000), "a Group with so many members"),
    "R26 Binary": (partial(binary, count=2_000_000_000), "a Binary of so many bytes, both ways"),
}


@pytest.mark.parametrize("name", LARGE)
def test_r26_large(tmp_path: Path, proven: Row, name: str) -> None:
    work, what = LARGE[name]
    count = scaled(work.keywords["count"])
    environ = {"VEHR_MAX_CONTENT": str(4_000_000_000)}
    with running(tmp_path / "d", "--open", **environ) as server:
        result = asyncio.run(work(server, count=count))
    proven(name, what, f"{count:,}", result)
