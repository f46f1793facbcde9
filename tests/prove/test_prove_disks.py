"""The long runs on disks that fill, lose their power, and flip bits: R03, R05, R18."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.disks import small_disk
from tests.faults.filling import fill_and_free
from tests.faults.flipping import flips
from tests.faults.running import running
from tests.faults.unplugging import record, unplug
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove

CASES = 100
"""Losses of power in one recording."""
PRAGMAS = {"ordinary": "", "many checkpoints": "PRAGMA wal_autocheckpoint = 60"}


def test_r03_full_disk(tmp_path: Path, proven: Row) -> None:
    rounds, sums = scaled(40), Counter[str]()
    for number in range(-(-rounds // 5)):
        with (
            small_disk(tmp_path / f"d{number}", 64) as disk,
            running(disk, "--open") as server,
        ):
            sums.update(asyncio.run(fill_and_free(server, disk, min(5, rounds), seed=number)))
    proven(
        "R03",
        "the disk (tmpfs) is filled to its last block under load, then has room again",
        f"{rounds:,} times, {sums['refused']:,} requests refused",
        f"{sums['ok']:,} acknowledged, 0 lost; reads went on, it healed without a restart",
    )


@pytest.mark.parametrize("kind", PRAGMAS)
def test_r05_loss_of_power(tmp_path: Path, proven: Row, kind: str) -> None:
    cases, sums = scaled(1000), Counter[str]()
    for batch in range(0, cases, CASES):
        made = asyncio.run(record(tmp_path / str(batch), 3.0, batch, PRAGMAS[kind]))
        sums.update(asyncio.run(unplug(made, min(CASES, cases - batch), batch)))
        proven(
            f"R05 {kind}",
            "power is lost: what was not synced is dropped, reordered, torn at 512 bytes; reopened",
            f"{sums['cases']:,} losses",
            f"{sums['ok']:,} acknowledgements checked (+{sums['contents']:,} of content), 0 lost",
        )


def test_r18_flipped_bits(tmp_path: Path, proven: Row) -> None:
    count = scaled(10_000)
    found = flips(tmp_path, count, seed=18)
    proven(
        "R18",
        "a bit flips in the database or its log; all is read by three roads, then the doctor looks",
        f"{count:,} flips",
        f"0 served wrong, 0 silently missing; {found['refused']:,} refused,"
        f" {found['found']:,} found by the doctor, {found['harmless']:,} without effect",
    )
