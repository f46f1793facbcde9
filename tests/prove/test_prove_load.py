"""The long runs under load: R02, R08, R12, R26."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.faults.crowding import Crowd, crowded, flat, left, room_for, well
from tests.faults.killing import kill_among, working
from tests.faults.large import binary, group, versions
from tests.faults.running import Running, running
from tests.faults.test_linear import registers
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

KILLS = 50
"""Workers killed before a data directory is checked and a new one is begun."""


def test_r02_workers_are_killed(tmp_path: Path, proven: Row) -> None:
    kills, sums = scaled(2000), Counter[str]()
    for batch in range(0, kills, KILLS):
        some = min(KILLS, kills - batch)
        sums.update(asyncio.run(kill_among(tmp_path / str(batch), some, seed=2000 + batch)))
        proven(
            "R02",
            "one of 3 workers, often the writer, is killed under load; the others go on",
            f"{sums['kills']:,} kills, {sums['writers']:,} of them of the writer",
            f"{sums['ok']:,} acknowledged, 0 lost, 0 torn; {sums['unknown']:,} unanswered",
        )


async def killed_writers(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Registers on three workers; each time the writer is killed, another one is added."""
    killed = 0
    async with working(folder, 3) as (base, workers):

        async def kill() -> None:
            nonlocal killed
            writer = workers.writer()
            if writer is not None:
                killed += 1
                await workers.kill(writer)
                await workers.add()

        found = await registers(base, kills / 2, kills, seed, kill)
    return found | {"kills": killed}


def test_r08_linearizable(tmp_path: Path, proven: Row) -> None:
    rounds, sums = scaled(100), Counter[str]()
    for number in range(rounds):
        found = asyncio.run(killed_writers(tmp_path / str(number), 20, seed=number))
        sums.update(found)
        proven(
            "R08",
            "8 clients read and write 3 registers; 20 times the writer of 3 workers is killed",
            f"{number + 1:,} rounds, {sums['kills']:,} kills",
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
