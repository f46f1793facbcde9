"""The index of words leaves a process that has requests to serve nine tenths of its time."""

from __future__ import annotations

import pytest

from fhir_server.store.sqlite.follower import BUSY, SHARE, pause_after


@pytest.mark.parametrize("took", [0.001, 0.02])
@pytest.mark.parametrize("pause", [0.01, 1.0])
def test_the_index_waits_longer_beside_requests(took: float, pause: float) -> None:
    assert pause_after(took, 0.0, pause) == took
    assert pause_after(took, pause * BUSY, pause) == took
    waited = pause_after(took, pause * BUSY * 1.01, pause)
    assert took / (took + waited) == pytest.approx(1 / SHARE)
