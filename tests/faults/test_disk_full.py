"""R03 on a real small disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.disks import small_disk
from tests.faults.filling import fill_and_free
from tests.faults.running import running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", ["1", "2"])
def test_r03_a_full_disk(tmp_path: Path, workers: str) -> None:
    with (
        small_disk(tmp_path / "data", 48) as disk,
        running(disk, "--open", "--workers", workers) as server,
    ):
        found = asyncio.run(fill_and_free(server, disk, rounds=2, seed=3))
    assert found["refused"] and found["ok"] > 10, found
