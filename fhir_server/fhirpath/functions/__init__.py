"""FHIRPath functions, one module per chapter of the specification."""

from __future__ import annotations

from fhir_server.fhirpath.functions import (
    boundaries,
    combining,
    conversion,
    existence,
    fhir,
    filtering,
    math,
    narrative,
    strings,
    subsetting,
    tree,
    types,
    utility,
)
from fhir_server.fhirpath.functions.registry import Function

_CHAPTERS = (
    existence,
    filtering,
    subsetting,
    combining,
    conversion,
    strings,
    math,
    boundaries,
    tree,
    utility,
    types,
    fhir,
    narrative,
)
FUNCTIONS: dict[str, Function] = {
    row.name: row for chapter in _CHAPTERS for row in chapter.FUNCTIONS
}
"""Every function by its name."""

NOT_YET = frozenset(
    (
        "checkModifiers",
        "elementDefinition",
        "slice",
    )
)
"""Functions of the specifications that raise FhirPathNotSupported when compiled."""
