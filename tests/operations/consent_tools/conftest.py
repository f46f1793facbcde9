"""A ward with a patient whose decisions are looked at, on every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.consent_tools.wards import Ward
from tests.serving import BACKENDS


@pytest.fixture(params=list(BACKENDS))
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    made = Ward(request.param, tmp_path)
    yield made
    made.close()
