"""R26, small: what ``make prove`` does with 100,000 versions, a million members and 2 GB."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.large import binary, group, versions
from tests.faults.running import Running, running

pytestmark = pytest.mark.slow


def test_r26_large(tmp_path: Path) -> None:
    async def all_three(server: Running) -> None:
        assert "all read back" in await versions(server, 1200)
        assert "stored" in await group(server, 20_000)
        assert "refused" in await group(server, 250_000)
        assert "the same bytes" in await binary(server, 60_000_000)

    with running(tmp_path / "d", "--open") as server:
        asyncio.run(all_three(server))
