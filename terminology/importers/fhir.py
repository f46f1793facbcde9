"""A CodeSystem resource in JSON, alone or in a Bundle: https://hl7.org/fhir/R4/codesystem.html"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.formats.json import Limits, loads
from fhir_server.model.problem import Problem
from terminology.importers.release import Imported, Release, Wanted
from terminology.service import Refused

LIMITS: Final = Limits(body=2_000_000_000, values=200_000_000)


def read(release: Release, wanted: Wanted) -> Imported:
    name = release.one(r"(?:.*/)?[^/]+\.json", "the JSON file")
    with release.open(name) as content:
        try:
            found = loads(content.read(), LIMITS)
        except Problem as error:
            raise Refused("invalid", f"{name[:100]}: {str(error)[:200]}") from error
    code_system = _code_system(found, wanted)
    if code_system.get("content") != "complete":
        raise Refused("not-supported", "only a code system whose content is complete")
    concepts = code_system.pop("concept", [])
    if wanted.version:
        code_system["version"] = wanted.version
    return Imported(code_system, iter(concepts))


def _code_system(found: Any, wanted: Wanted) -> dict[str, Any]:
    entries = found.get("entry", []) if isinstance(found, dict) else []
    candidates = [found, *(one.get("resource") for one in entries)]
    fitting = [
        one
        for one in candidates
        if isinstance(one, dict)
        and one.get("resourceType") == "CodeSystem"
        and wanted.url in ("", one.get("url"))
    ]
    if len(fitting) != 1 or not fitting[0].get("url"):
        raise Refused("invalid", "there is not exactly one such CodeSystem with a url in it")
    return fitting[0]
