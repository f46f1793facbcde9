"""Fixtures for every test: the outside data, where it is present."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("VEHR_RESEARCH", "off")
"""Servers that tests start have no second store to open, but where the data bank is the matter."""


@pytest.fixture(scope="module", autouse=True)
def _looked_through_once() -> Iterator[None]:
    """What one module leaves is collected, then no longer looked through: with all that thousands
    of tests keep, a single collection would take longer than a search may."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public conformance data (``VEHR_TEST_DATA``, default ``../shared``).

    Without it a test is skipped; under CI that is a failure.
    """
    root = Path(__file__).parent.parent
    folder = Path(os.environ.get("VEHR_TEST_DATA", root / ".." / "shared")).resolve()
    if folder.is_dir():
        return folder
    message = f"no test data in {folder}: set VEHR_TEST_DATA"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
