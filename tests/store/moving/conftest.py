"""A store that is moved, and what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving import served
from tests.store.moving.copies import fill


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "data"
    with served("sqlite", folder) as server:
        fill(server)
    return folder
