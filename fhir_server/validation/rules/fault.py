"""What a rule answers: nothing, or why the value is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """``code``: from https://hl7.org/fhir/R4/valueset-issue-type.html. ``text``: the reason,
    to be read after the name of the element."""

    code: str
    text: str


Rule = Callable[[Any], Fault | None]
"""Judges one value: a primitive of any JSON type, or an object whose structure is sound."""


def shown(value: object, limit: int = 60) -> str:
    """The client's own value, cut and quoted, for a diagnostics text."""
    if isinstance(value, dict | list):
        return json_type(value)
    if isinstance(value, int) and value.bit_length() > 256:
        return "the number"  # its digits are not worth computing
    text = str(value)
    return f"'{text[:limit]}...'" if len(text) > limit else f"'{text}'"


def json_type(value: object) -> str:
    """The JSON name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "number"


def wrong_type(value: object, expected: str) -> Fault:
    return Fault("structure", f"must be a JSON {expected}, not {json_type(value)}")
