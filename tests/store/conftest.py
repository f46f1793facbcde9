from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.store.base import Store
from fhir_server.store.memory import MemoryStore
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.sqlite.opening import open_store
from tests.mongodb import new_url
from tests.store.building import Bench


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def _memory(_: Path, clock: Clock) -> Store:
    return MemoryStore(clock)


async def _sqlite(path: Path, clock: Clock) -> Store:
    return await open_store(path, "serve", clock)


async def _mongo(_: Path, clock: Clock) -> Store:
    return await open_mongo(new_url(), clock)


BACKENDS: dict[str, Callable[[Path, Clock], Awaitable[Store]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "mongo": _mongo,
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    with asyncio.Runner() as runner:

        async def opened() -> Store:
            return await BACKENDS[request.param](tmp_path, clock)

        store = runner.run(opened())
        yield Bench(store, runner)
        runner.run(store.close())
