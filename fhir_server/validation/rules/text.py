"""string, markdown, code, id: https://hl7.org/fhir/R4/datatypes.html#primitive"""

from __future__ import annotations

import re

from .fault import Fault, shown, wrong_type

MAX_STRING = 1024 * 1024
"""Characters: "Note that strings SHALL NOT exceed 1MB (1024*1024 characters) in size"."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CODE = re.compile(r"[^\s]+( [^\s]+)*")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SPACE = re.compile(r"\s")

_EMPTY = Fault("value", "must not be empty")


def controls(value: str) -> Fault | None:
    """No characters below U+0020 other than tab, line feed and carriage return."""
    if value.isprintable() or _CONTROL.search(value) is None:
        return None
    return Fault("value", "must not have control characters")


def string(value: object) -> Fault | None:
    if type(value) is not str:
        return wrong_type(value, "string")
    if not value:
        return _EMPTY
    if value.isspace():
        return Fault("value", "must not be only whitespace")
    if len(value) > MAX_STRING:
        return Fault("too-long", f"is longer than {MAX_STRING} characters")
    return controls(value)


def code(value: object) -> Fault | None:
    if type(value) is not str:
        return wrong_type(value, "string")
    if not value:
        return _EMPTY
    if _CODE.fullmatch(value) is None:
        return Fault("value", f"{shown(value)} is no code: spaces only singly, between words")
    return controls(value)


def id_(value: object) -> Fault | None:
    """The id of a resource."""
    if type(value) is not str:
        return wrong_type(value, "string")
    if _ID.fullmatch(value) is None:
        return Fault("value", f"{shown(value)} is no id: 1-64 of A-Z a-z 0-9 - .")
    return None


def element_id(value: object) -> Fault | None:
    """The id of an element: https://hl7.org/fhir/R4/element.html (any text without spaces)."""
    fault = string(value)
    if fault is None and _SPACE.search(str(value)):
        return Fault("value", f"{shown(value)} is no element id: it has spaces")
    return fault
