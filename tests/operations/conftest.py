from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serving import backends

if TYPE_CHECKING:
    from predicting import World


@pytest.fixture(scope="module", params=backends("memory"))
def each_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The worlds that a test makes are on this store."""
    from predicting import World

    World.backend, World.folder = request.param, tmp_path_factory.mktemp("worlds")
    yield
    for world in [*World.opened]:
        world.close()
    World.backend, World.folder = "memory", None


@pytest.fixture(scope="module")
def full_world(each_store: None) -> World:
    """Everything that SCORE2 and PREVENT need, for tests that change nothing."""
    from predicting import World, complete

    return World(complete().resources)
