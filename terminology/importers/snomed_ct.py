"""SNOMED CT in Release Format 2, from the files of the snapshot.

https://hl7.org/fhir/R4/snomedct.html and the Release File Specification of SNOMED International
(chapter 4): concepts, descriptions, relationships, language reference sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from terminology.concepts import Json
from terminology.importers.release import Imported, Release, Row, Wanted, coded, needed, system
from terminology.service import Refused

URL: Final = "http://snomed.info/sct"
IS_A: Final = "116680003"
FULL_NAME: Final = "900000000000003001"
PREFERRED: Final = "900000000000548007"
PRIMITIVE: Final = "900000000000074008"
CORE: Final = "900000000000207008"
_TAG: Final = re.compile(r" \([^()]*\)$")
_PLACE: Final = r"(?:.*/)?Snapshot/{}/sct2_{}_(?:\w*)Snapshot(?:-\w+)*_\w*_\d{{8}}\.txt"
_LANGUAGE: Final = r"(?:.*/)?Snapshot/Refset/Language/der2_cRefset_Language\w*Snapshot.*\.txt"
PROPERTIES: Final = (
    {
        "code": "inactive",
        "uri": "http://hl7.org/fhir/concept-properties#inactive",
        "type": "boolean",
    },
    {"code": "sufficientlyDefined", "type": "boolean"},
    {"code": "moduleId", "type": "code"},
    {"code": "parent", "uri": "http://hl7.org/fhir/concept-properties#parent", "type": "code"},
)


def read(release: Release, wanted: Wanted) -> Imported:
    """The edition is that of the newest module in the release, unless a version is given."""
    concepts = {row["id"]: row for row in _snapshot(release, "Terminology", "Concept")}
    if not concepts:
        raise Refused("invalid", "there is no concept in the snapshot")
    links = _links(release)
    names = _names(release, _preferred(release))
    code_system = system(
        URL,
        wanted.version or _version(concepts),
        "SNOMED_CT",
        caseSensitive=False,
        hierarchyMeaning="is-a",
        compositional=True,
        property=[*PROPERTIES, *({"code": a, "type": "code"} for a in _attributes(links))],
    )
    return Imported(code_system, _concepts(concepts, links, names))


def _concepts(
    concepts: Mapping[str, Row],
    links: Mapping[str, list[tuple[str, str]]],
    names: Mapping[str, list[Json]],
) -> Iterator[Json]:
    for code, row in concepts.items():
        known = names.get(code, [])
        display = next((one["value"] for one in known if one.get("preferred")), "")
        full = next((one["value"] for one in known if one["use"]["code"] == FULL_NAME), "")
        properties: list[Json] = [
            {"code": "inactive", "valueBoolean": row["active"] != "1"},
            {
                "code": "sufficientlyDefined",
                "valueBoolean": row["definitionStatusId"] != PRIMITIVE,
            },
            coded("moduleId", row["moduleId"]),
        ]
        for kind, target in links.get(code, ()):
            properties.append(coded("parent" if kind == IS_A else kind, target))
        found: dict[str, Any] = {"code": code, "display": display or _TAG.sub("", full) or code}
        designations = [{k: v for k, v in one.items() if k != "preferred"} for one in known]
        if designations:
            found["designation"] = designations
        yield {**found, "property": properties}


def _snapshot(release: Release, folder: str, kind: str) -> Iterator[Row]:
    """The rows of one kind; files of several languages follow each other."""
    names = release.find(_PLACE.format(folder, kind))
    if not names:
        raise Refused("invalid", f"{release.path.name}: Snapshot/{folder}/sct2_{kind} is not in it")
    for name in names:
        yield from needed(release.rows(name), "id", "effectiveTime", "active", "moduleId")


def _links(release: Release) -> dict[str, list[tuple[str, str]]]:
    """concept -> (attribute, target) of what is active; groups are not told apart."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in _snapshot(release, "Terminology", "Relationship"):
        if row["active"] == "1":
            link = (row["typeId"], row["destinationId"])
            known = found.setdefault(row["sourceId"], [])
            if link not in known:
                known.append(link)
    return found


def _attributes(links: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    return sorted({kind for some in links.values() for kind, _ in some} - {IS_A})


def _preferred(release: Release) -> set[str]:
    """The descriptions that a language reference set prefers; those of US English go first."""
    found: dict[str, set[str]] = {}
    for name in release.find(_LANGUAGE):
        for row in needed(release.rows(name), "active", "refsetId", "acceptabilityId"):
            if row["active"] == "1" and row["acceptabilityId"] == PREFERRED:
                found.setdefault(row["refsetId"], set()).add(row["referencedComponentId"])
    us = found.get("900000000000509007")
    return us if us is not None else set().union(*found.values())


def _names(release: Release, preferred: set[str]) -> dict[str, list[Json]]:
    """concept -> its active descriptions as designations; ``preferred``: is it the display?"""
    found: dict[str, list[Json]] = {}
    for row in _snapshot(release, "Terminology", "Description"):
        if row["active"] == "1":
            is_full = row["typeId"] == FULL_NAME
            name = {
                "language": row["languageCode"],
                "use": {"system": URL, "code": row["typeId"]},
                "value": row["term"],
                **({"preferred": True} if row["id"] in preferred and not is_full else {}),
            }
            found.setdefault(row["conceptId"], []).append(name)
    return found


def _version(concepts: Mapping[str, Row]) -> str:
    """https://hl7.org/fhir/R4/snomedct.html#version"""
    newest = max(row["effectiveTime"] for row in concepts.values())
    modules = {r["moduleId"] for r in concepts.values() if r["effectiveTime"] == newest}
    module = CORE if CORE in modules else min(modules)
    return f"{URL}/{module}/version/{newest}"
