"""A few of what ``make prove`` does thousands of times: R01."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.check import check
from tests.faults.killing import kill_at_point, kill_at_random
from tests.faults.load import Told
from tests.faults.points import POINTS

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_r01_random_kills(tmp_path: Path) -> None:
    found = asyncio.run(kill_at_random(tmp_path / "data", kills=4, seed=11))
    assert found["ok"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before-commit", "after-commit", "after-index"])
def test_r01_kills_at_a_point(tmp_path: Path, point: str) -> None:
    assert point in POINTS
    asyncio.run(kill_at_point(tmp_path / "data", point, kills=2, seed=12))


@pytest.mark.slow
def test_the_check_can_fail(tmp_path: Path) -> None:
    """What was told and is not stored, and what is stored and was not told."""
    data = tmp_path / "data"
    asyncio.run(kill_at_random(data, kills=1, seed=13))
    lost = Told(ok={"never": ("x", 1)})
    with pytest.raises(AssertionError, match="acknowledged"):
        asyncio.run(check(data, lost))
    with pytest.raises(AssertionError, match="never taken"):
        asyncio.run(check(data, Told()))
