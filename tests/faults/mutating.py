"""Request bodies that are nearly right: bytes flipped, cut, doubled, values swapped."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, "", " ", "\u0000", "\ud800", [], {}, [[]], [None], {"": ""},
    "a" * 2000, "9999-99-99", "0001", "../..", "urn:x", "Patient/x", 10**30, {"extension": [{}]},
)  # fmt: skip


def mutated(resource: dict[str, Any], chance: random.Random) -> bytes:
    """A body made of a resource: its values or its bytes are not what they were."""
    if chance.random() < 0.6:
        copy = json.loads(json.dumps(resource))
        for _ in range(chance.randint(1, 3)):
            _swap(copy, chance)
        return json.dumps(copy).encode("utf-8", "surrogatepass")
    content = bytearray(json.dumps(resource).encode())
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(content) or 1)
        match chance.randrange(4):
            case 0:
                content[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del content[place:]
            case 2:
                content[place:place] = content[: chance.randrange(40)]
            case _:
                del content[place : place + chance.randrange(20)]
    return bytes(content)


def _swap(node: Any, chance: random.Random) -> None:
    """Replaces, adds or removes something somewhere inside."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = chance.choice(keys)
        inner = node[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
            node = inner
            continue
        if chance.random() < 0.2:
            del node[key]
        elif chance.random() < 0.2 and isinstance(node, dict):
            node["_" + str(key)] = deepcopy(inner)
        else:
            node[key] = deepcopy(chance.choice(ODD))
        return
