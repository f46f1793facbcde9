"""Small samples of what ``make prove`` does at length: R04, R06, R07."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.injected import BROKEN, injected, strace_works
from tests.faults.racing import conditional_creates, increments
from tests.faults.running import running

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not strace_works(), reason="strace cannot inject faults here")
@pytest.mark.parametrize("fault", ["EIO of fdatasync, once", "ENOSPC of pwrite64, some"])
def test_r04_the_disk_fails(tmp_path: Path, fault: str) -> None:
    found = asyncio.run(injected(tmp_path / "d", BROKEN[fault], seed=4))
    assert found["ok"] > 0, found


def test_r06_r07_races(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--open", "--workers", "2") as server:
        made = asyncio.run(conditional_creates(server.base, clients=16, rounds=3))
        assert made == {201: 3, 200: 45}
        counted = asyncio.run(increments(server.base, clients=8, each=3))
        assert counted[200] == 24
