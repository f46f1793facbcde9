from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import BACKENDS, Server, served


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """An open server, on every store."""
    with served(request.param, tmp_path) as server:
        yield server


@pytest.fixture(params=BACKENDS)
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens."""
    with served(request.param, tmp_path, open_=False) as server:
        yield server
