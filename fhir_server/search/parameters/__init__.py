"""The search parameter types: https://hl7.org/fhir/R4/search.html#ptypes"""

from __future__ import annotations

from typing import Final

from .composite import COMPOSITE
from .date import DATE
from .kind import (
    LIMITS,
    Component,
    Context,
    Criterion,
    Kind,
    KindName,
    Limits,
    Parameter,
    Site,
    Terminology,
    defined_case,
)
from .number import NUMBER
from .quantity import QUANTITY
from .reference import REFERENCE
from .special import SPECIAL
from .string import STRING
from .token import TOKEN
from .uri import URI

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (TOKEN, STRING, DATE, REFERENCE, QUANTITY, NUMBER, URI, COMPOSITE, SPECIAL)
}

__all__ = [
    "KINDS",
    "LIMITS",
    "Component",
    "Context",
    "Criterion",
    "Kind",
    "KindName",
    "Limits",
    "Parameter",
    "Site",
    "Terminology",
    "defined_case",
]
