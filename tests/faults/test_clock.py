"""A clock that jumps: R21 for what is stored and for tokens."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from tests.serving import served

pytestmark = pytest.mark.slow

HOUR = 3_600_000_000
JUMPS = (0, -HOUR, HOUR, -24 * HOUR, 2, (2**31 + 5) * 1_000_000 - time.time_ns() // 1000, 0)
"""Microseconds; the last but one is behind the end of 32-bit time."""


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_r21_last_updated_only_rises(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump = [0]
    monkeypatch.setattr("fhir_server.app.micros", lambda: time.time_ns() // 1000 + jump[0])
    times = []
    with served(backend, tmp_path) as server:
        for number, jump[0] in enumerate(JUMPS):
            body = {"resourceType": "Basic", "id": "a", "code": {"text": str(number)}}
            answer = server.put("Basic/a", body)
            assert answer.status_code in (200, 201), answer.text
            times.append(answer.json()["meta"]["lastUpdated"])
        assert all(a < b for a, b in itertools.pairwise(times)), times
        found = server.get("Basic/a/_history").json()["entry"]
        assert [e["resource"]["meta"]["lastUpdated"] for e in found] == times[::-1]


def test_r21_a_clock_that_goes_ahead_ends_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served("sqlite", tmp_path, open_=False) as server:
        headers = server.bearer("system/*.cruds", minutes=5)
        assert server.get("Patient", headers=headers).status_code == 200
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 3600)
        store = server.domain.store
        monkeypatch.setattr(store.ledger, "_now", time.time)
        assert server.get("Patient", headers=headers).status_code == 401
