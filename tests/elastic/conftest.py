from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.store.elastic.cluster import connect
from fhir_server.store.memory import MemoryStore
from tests.elastic.building import Told
from tests.elastic.engine import Engine, started
from tests.store.building import Bench

REAL = "VEHR_TEST_ELASTICSEARCH"
SECRET = "VEHR_TEST_ELASTICSEARCH_SECRET"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """The small one, which can fail at will."""
    with started() as found:
        yield found


@pytest.fixture
def bench(engine: Engine) -> Iterator[Bench]:
    """A store in memory with an engine beside it that does not follow by itself."""
    with asyncio.Runner() as runner:
        yield Bench(Told(MemoryStore(), connect(engine.url)), runner)


def engine_place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """(URL, secret) of the small engine, and of a real one where there is one."""
    if request.param == "small":
        with started() as engine:
            yield engine.url, ""
        return
    if REAL not in os.environ:
        pytest.skip(f"no Elasticsearch: set {REAL} (and {SECRET})")
    yield os.environ[REAL], os.environ.get(SECRET, "")


place = pytest.fixture(params=["small", "real"])(engine_place)


@pytest.fixture
def anywhere(place: tuple[str, str]) -> Iterator[Bench]:
    """``bench``, on whichever engine there is."""
    with asyncio.Runner() as runner:
        store = Told(MemoryStore(), connect(*place))
        yield Bench(store, runner)
        runner.run(dropped(store))


async def dropped(store: Any) -> None:
    """Leaves nothing behind in the engine."""
    await store.follower.close()
    kept = await store.follower.states.read()
    await store.follower.drop(kept.state.names if kept.state is not None else ())
    await store.close()
