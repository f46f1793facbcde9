"""Patch formats, one per file; each gives a new resource or raises a Problem.

https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.patches import fhirpath_patch, json_patch, xml_patch
from fhir_server.model.exchange import Json

Patch = Callable[[Json, bytes, Definitions], Json]
"""(resource, patch document, definitions) -> the patched resource; the input is unchanged."""

FORMATS: Final[dict[str, Patch]] = {
    "application/json-patch+json": json_patch.apply,
    "application/xml-patch+xml": xml_patch.apply,
    "application/fhir+json": fhirpath_patch.apply_json,
    "application/fhir+xml": fhirpath_patch.apply_xml,
}
"""Media type of the patch document -> its format."""
