"""Fixed values and patterns: https://hl7.org/fhir/R4/elementdefinition-definitions.html

``fixed[x]``: the value is exactly this. ``pattern[x]``: it has at least this; each item of a list
in the pattern is matched by some item of the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json

Fits = Callable[[Any], bool]


def fixed(expected: Any) -> Fits:
    def fits(value: Any) -> bool:
        return (type(value) is type(expected) and bool(value == expected)) or _same(value, expected)

    return fits


def _same(value: Any, expected: Any) -> bool:
    """Equal numbers may be of two types (1 and 1.0)."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    return bool(value == expected)


def pattern(expected: Any) -> Fits:
    return lambda value: has(value, expected)


def has(value: Any, expected: Any) -> bool:
    """Does the value have all that a pattern has?"""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(
            name in value and has(value[name], one) for name, one in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(value, list) and all(
            any(has(item, one) for item in value) for one in expected
        )
    return _same(value, expected)


def stated(element: Json) -> tuple[str, Any] | None:
    """("fixed" or "pattern", the value) of an ElementDefinition."""
    for name, value in element.items():
        for kind in ("fixed", "pattern"):
            if name.startswith(kind) and name[len(kind) : len(kind) + 1].isupper():
                return kind, value
    return None


def fitting(element: Json) -> Fits | None:
    """The test of an ElementDefinition's fixed value or pattern, if it has one."""
    found = stated(element)
    if found is None:
        return None
    kind, value = found
    return fixed(value) if kind == "fixed" else pattern(value)


def shown(value: Any, limit: int = 120) -> str:
    """A definition's value in a message."""
    text = value if isinstance(value, str) else dumps(value).decode()
    return f"'{text[:limit]}...'" if len(text) > limit else f"'{text}'"
