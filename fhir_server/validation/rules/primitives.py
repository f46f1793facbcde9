"""The primitive types and their rules: https://hl7.org/fhir/R4/datatypes.html#primitive"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .binary import base64_binary
from .dates import dated
from .fault import Rule
from .numbers import boolean, decimal, integer, positive_int, unsigned_int
from .text import code, id_, string
from .uris import patterned, uri
from .xhtml import xhtml

FIXED: Mapping[str, Rule] = MappingProxyType(
    {
        "base64Binary": base64_binary,
        "boolean": boolean,
        "canonical": uri,
        "code": code,
        "decimal": decimal,
        "id": id_,
        "integer": integer,
        "markdown": string,
        "positiveInt": positive_int,
        "string": string,
        "unsignedInt": unsigned_int,
        "uri": uri,
        "url": uri,
        "xhtml": xhtml,
    }
)
"""Types whose rule is written out."""

PATTERNED: Mapping[str, Callable[[str, str], Rule]] = MappingProxyType(
    {
        "date": dated,
        "dateTime": dated,
        "instant": dated,
        "oid": patterned,
        "time": dated,
        "uuid": patterned,
    }
)
"""Types whose rule is made from the published pattern."""


def primitive_rules(pattern: Callable[[str], str | None]) -> dict[str, Rule]:
    """Every primitive type's rule. ``pattern`` gives the published pattern of a type."""
    rules = dict(FIXED)
    for name, make in PATTERNED.items():
        published = pattern(name)
        if published is None:
            raise ValueError(f"the definitions have no pattern for {name}")
        rules[name] = make(name, published)
    return rules
