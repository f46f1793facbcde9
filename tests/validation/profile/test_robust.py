"""Whatever is sent is an answer: no resource and no definition makes validation fail."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from fhir_server.validation.profile.profiles import claimed
from tests.validation.profile.world import World, examples, guides

JUNK: tuple[Any, ...] = (None, True, 0, -1, "", "x", "#", "#x", [], {}, [None], [[]], {"x": 1})
ROUNDS = 6


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(owner, key) of everything in a resource."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def spoiled(resource: Any, chance: random.Random) -> Any:
    made = deepcopy(resource)
    for _ in range(chance.randint(1, 3)):
        owner, key = chance.choice(list(places(made)))
        if key == "resourceType" and owner is made:
            continue
        if chance.random() < 0.3 and isinstance(owner, dict):
            key = chance.choice(("extension", "id", "url", "coding", "value", "item"))
        owner[key] = deepcopy(chance.choice(JUNK))
    return made


def test_resources(shared: Path) -> None:
    """The profile pass is told to look also where the structure is not sound."""
    world, chance = guides(shared), random.Random(7)
    found = [one for name, one in examples(shared) if not name.endswith("validation-oo.json")]
    for resource in found[::6]:
        for _ in range(ROUNDS):
            for issue in world.issues(spoiled(resource, chance)):
                assert issue.code and issue.diagnostics


def test_definitions(shared: Path) -> None:
    """Profiles whose differential or snapshot is spoiled."""
    world, chance = guides(shared), random.Random(8)
    found = [one for _, one in examples(shared) if claimed(one)][::25]
    for resource in found:
        url = claimed(resource)[0].partition("|")[0]
        structure = world.known("StructureDefinition", url)
        if structure is None or "snapshot" not in structure:
            continue
        for view in ("snapshot", "differential"):
            for _ in range(ROUNDS):
                made = {k: v for k, v in structure.items() if k != "snapshot"}
                made[view] = spoiled({"element": structure["snapshot"]["element"]}, chance)
                own = World(world._archives, [made])
                for issue in own.issues(resource):
                    assert issue.code and issue.diagnostics
