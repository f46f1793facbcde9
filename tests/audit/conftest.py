from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.trail import Clinic
from tests.serving import served


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """A server that wants tokens, with one patient and one observation."""
    with served("sqlite", tmp_path, open_=False) as server:
        yield Clinic(server, tmp_path)
