"""Servers on every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import BACKENDS, Server, served


@pytest.fixture(params=list(BACKENDS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path / "data") as server:
        yield server
