"""R05: the power goes; what was acknowledged is there."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from fhir_server.model.problem import Problem
from tests.faults.unplugging import record, unplug

pytestmark = pytest.mark.slow

OFTEN = "PRAGMA wal_autocheckpoint = 60"
"""So that a short load has checkpoints too."""


def test_r05_loss_of_power(tmp_path: Path) -> None:
    made = asyncio.run(record(tmp_path / "r", 1.5, 51, OFTEN))
    found = asyncio.run(unplug(made, 15, 51))
    assert found["ok"] > 20 and found["contents"] > 0, found


def test_the_check_finds_what_was_not_synced(tmp_path: Path) -> None:
    """The same, with a database that does not wait for the disk."""
    made = asyncio.run(record(tmp_path / "r", 1.0, 52, f"{OFTEN}; PRAGMA synchronous = OFF"))
    with pytest.raises((AssertionError, OSError, sqlite3.Error, Problem)):
        asyncio.run(unplug(made, 20, 52))
