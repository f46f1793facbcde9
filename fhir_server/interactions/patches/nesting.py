"""How deep a patched resource nests: a body is asked that when it is read, a patch adds to it."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.formats.json import DEFAULT_LIMITS
from fhir_server.model.problem import Unprocessable

DEPTH: Final = DEFAULT_LIMITS.depth


def refuse_depth(resource: Any) -> None:
    """Unprocessable where it nests deeper than a body may."""
    if deeper(resource, DEPTH):
        raise Unprocessable(f"the patched resource nests deeper than {DEPTH} levels")


def deeper(value: Any, levels: int) -> bool:
    """Does it nest deeper?"""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return levels == 0 or any(deeper(one, levels - 1) for one in inner)
    return False
