"""uri, url, canonical, oid, uuid: https://hl7.org/fhir/R4/datatypes.html#uri"""

from __future__ import annotations

import re
from functools import lru_cache

from .fault import Fault, Rule, shown, wrong_type
from .text import controls

_SPACE = re.compile(r"\s")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.")


def uri(value: object) -> Fault | None:
    """uri, url and canonical: without spaces; the rest of RFC 3986 is not policed."""
    if type(value) is not str:
        return wrong_type(value, "string")
    if not value:
        return Fault("value", "must not be empty")
    if _SPACE.search(value):
        return Fault("value", f"{shown(value)} is no URI: it has spaces")
    return controls(value)


def absolute(value: str) -> bool:
    """Whether a URI has a scheme."""
    return _known_absolute(value) if len(value) <= 200 else _absolute(value)


def _absolute(value: str) -> bool:
    return _ABSOLUTE.match(value) is not None


_known_absolute = lru_cache(maxsize=4096)(_absolute)


def patterned(name: str, pattern: str) -> Rule:
    """oid and uuid: the published pattern for the whole text."""
    match = re.compile(pattern).fullmatch

    def check(value: object) -> Fault | None:
        if type(value) is not str:
            return wrong_type(value, "string")
        if match(value) is None:
            return Fault("value", f"{shown(value)} is no {name}")
        return None

    return check
