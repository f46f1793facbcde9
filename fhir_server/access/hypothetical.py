"""What rests on values that were given and not recorded is an answer, never a part of the record.

Models mark it (``operations/models/drafts.py``); whoever sends it back has it refused.
"""

from __future__ import annotations

from typing import Final

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable

SYSTEM: Final = "urn:vehr:fhir:CodeSystem:result"
CODE: Final = "hypothetical"


def refuse_hypothetical(resource: Json) -> None:
    """Of a valid resource, what it contains and, for a Bundle, its entries. Raises
    Unprocessable."""
    if _is_marked(resource) or any(map(_is_marked, resource.get("contained", ()))):
        raise Unprocessable(
            "what rests on values that were given and not recorded is never stored",
            code="business-rule",
            expression=f"{resource['resourceType']}.meta.tag",
        )
    if resource["resourceType"] == "Bundle":
        for entry in resource.get("entry", ()):
            if "resource" in entry:
                refuse_hypothetical(entry["resource"])


def _is_marked(resource: Json) -> bool:
    tags = resource.get("meta", {}).get("tag", ())
    return any(tag.get("code") == CODE and tag.get("system") == SYSTEM for tag in tags)
