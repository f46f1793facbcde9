"""URLs taken apart, strictly: https://hl7.org/fhir/R4/http.html#general

What does not decode, climbs (``..``) or hides a separator is a BadRequest.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from fhir_server.model.problem import BadRequest

Pairs = list[tuple[str, str]]

_PLAIN_SEGMENT: Final = r"[A-Za-z0-9$_-][A-Za-z0-9$_.-]*"
_PLAIN: Final = re.compile(rf"{_PLAIN_SEGMENT}(?:/{_PLAIN_SEGMENT})*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f/\\]")


def segments(path: str) -> list[str]:
    """The decoded segments of a path without its leading slash; one trailing slash is let go."""
    if _PLAIN.fullmatch(path):
        return path.split("/")
    if not path:
        return []
    parts = [decode(part) for part in path.removesuffix("/").split("/")]
    for part in parts:
        if part in ("", ".", "..") or _BAD_CHARACTER.search(part):
            raise BadRequest("the path of the URL is not valid")
    return parts


def pairs(query: str) -> Pairs:
    """Decoded names and values of a query or form, in order; empty pairs are let go."""
    if not query:
        return []
    found: Pairs = []
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            found.append((decode(name.replace("+", " ")), decode(value.replace("+", " "))))
    return found


def decode(text: str) -> str:
    """Percent-decoding of valid escapes to valid UTF-8 without NUL."""
    if "%" in text:
        if _BAD_ESCAPE.search(text):
            raise BadRequest("a % in the URL is not followed by two hexadecimal digits")
        try:
            text = unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise BadRequest("the URL is not valid UTF-8") from None
    if "\x00" in text:
        raise BadRequest("the URL has a NUL character")
    return text
