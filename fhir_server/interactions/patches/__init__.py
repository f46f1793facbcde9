"""Patch formats, one per file; each gives a new resource or raises a Problem.

https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Final

from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.patches import fhirpath_patch, json_patch, xml_patch
from fhir_server.interactions.patches.nesting import refuse_depth
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable

Patch = Callable[[Json, bytes, Definitions], Json]
"""(resource, patch document, definitions) -> the patched resource; the input is unchanged."""

FORMATS: Final[dict[str, Patch]] = {
    json_patch.MEDIA: json_patch.apply,
    "application/xml-patch+xml": xml_patch.apply,
    "application/fhir+json": fhirpath_patch.apply_json,
    "application/fhir+xml": fhirpath_patch.apply_xml,
}
"""Media type of the patch document -> its format."""

IN_BINARY: Final = frozenset({json_patch.MEDIA, "application/xml-patch+xml"})
"""Formats that are no resource: a Binary holds them in a Bundle."""


def patched(resource: Json, patch: Json, definitions: Definitions) -> Json:
    """``patch``: Parameters (FHIRPath Patch) or a Binary that holds a patch document.

    What a resource is and what the server says of it stays: its type, id, version and time.
    """
    if patch.get("resourceType") == "Parameters":
        changed = fhirpath_patch.apply(resource, patch, definitions)
    else:
        media, document = _document(patch)
        changed = FORMATS[media](resource, document, definitions)
    refuse_depth(changed)
    _unchanged(resource, changed)
    return changed


def asks(patch: Json) -> bool:
    """Could its sender learn by it what the resource says? A test and a selector answer."""
    if patch.get("resourceType") == "Parameters":
        return True
    media, document = _document(patch)
    return media != json_patch.MEDIA or json_patch.tests(document)


def _document(patch: Json) -> tuple[str, bytes]:
    media, data = patch.get("contentType"), patch.get("data", "")
    if patch.get("resourceType") != "Binary" or media not in IN_BINARY:
        raise BadRequest("a patch is Parameters, or a Binary with a JSON Patch or XML Patch")
    try:
        return media, binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, TypeError, ValueError):
        raise BadRequest("the data of the Binary is not base64", expression="Binary.data") from None


def _unchanged(before: Json, after: Json) -> None:
    type_ = before["resourceType"]
    for name in ("resourceType", "id"):
        if after.get(name) != before.get(name):
            raise Unprocessable(f"a patch does not change {name}", expression=f"{type_}.{name}")
    meta = after.get("meta")
    for name in ("versionId", "lastUpdated"):
        if isinstance(meta, dict) and meta.get(name, before["meta"][name]) != before["meta"][name]:
            raise Unprocessable(
                f"a patch does not change meta.{name}", expression=f"{type_}.meta.{name}"
            )
