"""The Codings of a resource, wherever they are in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fhir_server.formats.json import loads


def codings(value: Any) -> Iterator[tuple[str, str]]:
    """(system, code) of every object with a code beside a system, or in a ``coding`` list, at any
    depth. ``system`` is "" where there is none.
    """
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        name, node = stack.pop()
        if type(node) is list:
            stack += [(name, item) for item in node if type(item) in (dict, list)]
            continue
        code = node.get("code")
        if type(code) is str and ("system" in node or name == "coding"):
            yield node.get("system", ""), code
        for member, child in node.items():
            if type(child) is dict or type(child) is list:
                stack.append((member, child))


def bears_coding(body: bytes, system: str | None, code: str) -> bool:
    """Whether a stored resource has this Coding; ``system`` None: of any system."""
    if json.dumps(code, ensure_ascii=False).encode() not in body:
        return False
    found = _codings(body)
    if system is None:
        return any(code == held for _, held in found)
    return (system, code) in found


@lru_cache(maxsize=1024)
def _codings(body: bytes) -> frozenset[tuple[str, str]]:
    return frozenset(codings(loads(body)))
