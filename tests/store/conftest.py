from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.store.base import Store
from fhir_server.store.memory import MemoryStore
from tests.store.building import Bench


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def _memory(_: Path, clock: Clock) -> Store:
    return MemoryStore(clock)


BACKENDS: dict[str, Callable[[Path, Clock], Store]] = {"memory": _memory}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    with asyncio.Runner() as runner:

        async def opened() -> Store:
            return BACKENDS[request.param](tmp_path, clock)

        store = runner.run(opened())
        yield Bench(store, runner)
        runner.run(store.close())
