from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.trail import Clinic
from tests.serving import backends, served


@pytest.fixture(scope="module", params=backends("sqlite"))
def backend(request: pytest.FixtureRequest) -> str:
    """The store of every server of these suites."""
    return str(request.param)


@pytest.fixture
def clinic(backend: str, tmp_path: Path) -> Iterator[Clinic]:
    """A server that wants tokens, with one patient and one observation."""
    with served(backend, tmp_path, open_=False) as server:
        yield Clinic(server, tmp_path)
