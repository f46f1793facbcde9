"""``metadata?mode=terminology``: https://hl7.org/fhir/R4/terminologycapabilities.html

It lists the code systems of FHIR itself. What else is stored depends on who looks; a search of
CodeSystem tells.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fhir_server.model.exchange import Json
from terminology.published import published, published_urls

EXPANSION: Final = (
    ("filter", "Beginnings of words of code, display and designations"),
    ("offset", "Codes to leave out at the beginning"),
    ("count", "Codes to show; 0: only how many there are"),
    ("includeDesignations", "With designations"),
    ("designation", "Only these: language or use"),
    ("includeDefinition", "With ValueSet.compose"),
    ("activeOnly", "Without inactive codes"),
    ("excludeNested", "false: codes below each other"),
    ("excludeNotForUI", "Without abstract codes"),
    ("displayLanguage", "The language of displays"),
    ("exclude-system", "Without this code system"),
    ("system-version", "Where none is stated"),
    ("check-system-version", "Another is refused"),
    ("force-system-version", "Whatever is stated"),
)


def terminology_statement(base: str, version: str, started: str, codes: Collection[str]) -> Json:
    """The TerminologyCapabilities of a base URL. ``codes``: of its operations."""
    found: Json = {
        "resourceType": "TerminologyCapabilities",
        "url": f"{base}/metadata?mode=terminology",
        "version": version,
        "name": "vEHRTerminology",
        "status": "active",
        "date": started,
        "kind": "instance",
        "software": {"name": "vEHR", "version": version},
        "implementation": {"description": "Terminology service of this domain", "url": base},
        "lockedDate": False,
        "codeSystem": [_code_system(url) for url in published_urls("CodeSystem")],
    }
    if "expand" in codes:
        parameters = [{"name": name, "documentation": text} for name, text in EXPANSION]
        found["expansion"] = {
            "hierarchical": True,
            "paging": True,
            "incomplete": False,
            "parameter": parameters,
            "textFilter": "Each word of the filter begins a word; case and accents do not matter",
        }
    found["codeSearch"] = "all"
    if "validate-code" in codes:
        found["validateCode"] = {"translations": True}
    if "translate" in codes:
        found["translation"] = {"needsMap": True}
    if "closure" in codes:
        found["closure"] = {"translation": False}
    return found


def _code_system(url: str) -> Json:
    resource = published("CodeSystem", url) or {}
    found: Json = {"uri": url}
    if "version" in resource:
        found["version"] = [{"code": resource["version"], "isDefault": True}]
    return found | {"subsumption": resource.get("hierarchyMeaning", "is-a") == "is-a"}
