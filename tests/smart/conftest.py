from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

import fhir_server.auth.identities as identities
from fhir_server.auth.passwords import Passwords
from tests.serving import BACKENDS, Server, served


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real hashes of the least cost: what they cost in service is tested once."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(identities, "Passwords", lambda: Passwords(cheap))


@pytest.fixture(params=list(BACKENDS))
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens, on every store."""
    with served(request.param, tmp_path, open_=False) as server:
        yield server


@pytest.fixture
def smart(tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens, in memory."""
    with served("memory", tmp_path, open_=False) as server:
        yield server
