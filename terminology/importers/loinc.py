"""LOINC, from the tables of its release: https://hl7.org/fhir/R4/loinc.html

``Loinc.csv`` for the terms; answer lists, parts and the hierarchy if they are there. Licence and
format: https://loinc.org/kb/users-guide/loinc-database-structure/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from terminology.concepts import Json
from terminology.importers.release import Imported, Release, Row, Wanted, coded, needed, system
from terminology.service import Refused

URL: Final = "http://loinc.org"
TEXTS: Final = (
    "COMPONENT",
    "PROPERTY",
    "TIME_ASPCT",
    "SYSTEM",
    "SCALE_TYP",
    "METHOD_TYP",
    "CLASS",
    "CLASSTYPE",
    "ORDER_OBS",
    "STATUS",
)
"""Columns that are properties; a filter names them as they are."""
RETIRED: Final = frozenset({"DEPRECATED", "DISCOURAGED"})
_VERSION: Final = re.compile(r"(\d+\.\d+)")


def read(release: Release, wanted: Wanted) -> Imported:
    version = wanted.version or _version(release)
    name = release.one(r"(?:.*/)?Loinc\.csv", "Loinc.csv")
    known = [{"code": text, "type": "string"} for text in TEXTS]
    inactive = {
        "code": "inactive",
        "uri": "http://hl7.org/fhir/concept-properties#inactive",
        "type": "boolean",
    }
    links = [{"code": one, "type": "code"} for one in ("parent", "answer-list", "answers-for")]
    code_system = system(
        URL,
        version,
        "LOINC",
        caseSensitive=False,
        hierarchyMeaning="is-a",
        compositional=False,
        property=[*known, inactive, *links],
    )
    return Imported(code_system, _concepts(release, name))


def _version(release: Release) -> str:
    """From the name of the release, such as Loinc_2.77.zip."""
    found = _VERSION.search(release.path.name)
    if found is None:
        raise Refused("invalid", "the version of LOINC is not in the file's name: state it")
    return found[1]


def _concepts(release: Release, name: str) -> Iterator[Json]:
    parents = _parents(release)
    seen: set[str] = set()
    for row in needed(release.rows(name, ",", quoted=True), "LOINC_NUM", "LONG_COMMON_NAME"):
        seen.add(row["LOINC_NUM"])
        yield _term(row, parents)
    for concept in (*_parts(release, parents), *_answers(release)):
        if concept["code"] not in seen:
            seen.add(concept["code"])
            yield concept


def _term(row: Row, parents: dict[str, set[str]]) -> Json:
    code = row["LOINC_NUM"]
    properties: list[Json] = [
        {"code": name, "valueString": row[name]} for name in TEXTS if row.get(name)
    ]
    properties += [coded("parent", parent) for parent in sorted(parents.get(code, ()))]
    if row.get("STATUS") in RETIRED:
        properties.append({"code": "inactive", "valueBoolean": True})
    others = [row.get("SHORTNAME", ""), row.get("DisplayName", ""), row.get("CONSUMER_NAME", "")]
    found: dict[str, Any] = {"code": code, "display": row["LONG_COMMON_NAME"]}
    names = [{"value": text} for text in dict.fromkeys(others) if text]
    if names:
        found["designation"] = names
    return {**found, "property": properties}


def _parents(release: Release) -> dict[str, set[str]]:
    """code -> the parts that it lies below."""
    found: dict[str, set[str]] = {}
    for name in release.find(r"(?:.*/)?(?:ComponentHierarchyBySystem|MultiAxialHierarchy)\.csv"):
        for row in needed(release.rows(name, ",", quoted=True), "IMMEDIATE_PARENT", "CODE"):
            if row["IMMEDIATE_PARENT"]:
                found.setdefault(row["CODE"], set()).add(row["IMMEDIATE_PARENT"])
    return found


def _parts(release: Release, parents: dict[str, set[str]]) -> Iterator[Json]:
    for name in release.find(r"(?:.*/)?Part\.csv"):
        for row in needed(release.rows(name, ",", quoted=True), "PartNumber", "PartName"):
            properties: list[Json] = [
                coded("parent", parent) for parent in sorted(parents.get(row["PartNumber"], ()))
            ]
            if row.get("Status") in RETIRED:
                properties.append({"code": "inactive", "valueBoolean": True})
            display = row.get("PartDisplayName") or row["PartName"]
            found: dict[str, Any] = {"code": row["PartNumber"], "display": display}
            yield {**found, "property": properties} if properties else found


def _answers(release: Release) -> Iterator[Json]:
    """The lists, and below them their answers."""
    lists: dict[str, str] = {}
    answers: dict[str, tuple[str, list[str]]] = {}
    for name in release.find(r"(?:.*/)?AnswerList\.csv"):
        for row in needed(release.rows(name, ",", quoted=True), "AnswerListId", "AnswerStringId"):
            lists[row["AnswerListId"]] = row.get("AnswerListName", "")
            if row["AnswerStringId"]:
                known = answers.setdefault(row["AnswerStringId"], (row.get("DisplayText", ""), []))
                known[1].append(row["AnswerListId"])
    for code, display in lists.items():
        yield {"code": code, "display": display or code}
    for code, (display, above) in answers.items():
        links = [coded("parent", one) for one in dict.fromkeys(above)]
        yield {"code": code, "display": display or code, "property": links}
