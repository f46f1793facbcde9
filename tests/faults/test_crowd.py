"""R12: many connections, and a load that goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.crowding import Crowd, Sample, crowded, flat, left, room_for, well
from tests.faults.running import Running, running, until

pytestmark = pytest.mark.slow


def test_r12_many_connections(tmp_path: Path) -> None:
    async def crowd(server: Running) -> Crowd:
        found = await crowded(server, room_for(600), 60, 2.0, seed=12)
        await left(found)
        return found

    with running(tmp_path / "d", "--open") as server:
        found = asyncio.run(crowd(server))
        well(found)
        flat(found.samples[-9:])
        assert found.statuses[200] > 20 and found.health
        until(lambda: len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 100)


def test_the_checks_can_fail() -> None:
    rising = [Sample(number * 10_000_000, number, 0) for number in range(60)]
    with pytest.raises(AssertionError, match="memory rises"):
        flat(rising)
    with pytest.raises(AssertionError, match="500"):
        crowd = Crowd(samples=rising)
        crowd.statuses[500] += 1
        well(crowd)
