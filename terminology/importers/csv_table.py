"""A code system of one's own as a table with a heading.

Columns: ``code``, ``display``, ``definition``, ``parent`` (codes, with bars between them),
``inactive`` (true or false), ``display:LANGUAGE``; every other one is a property of its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from terminology.concepts import Json
from terminology.importers.release import Imported, Release, Row, Wanted, coded, system
from terminology.service import Refused

OWN: Final = frozenset({"code", "display", "definition", "parent", "inactive"})
_TRANSLATED: Final = "display:"


def read(release: Release, wanted: Wanted) -> Imported:
    if not wanted.url:
        raise Refused("required", "a table does not say its code system: state the url")
    name = release.one(r"(?:.*/)?[^/]+\.csv", "the table (.csv)")
    heading = next(release.rows(name, ",", quoted=True), None)
    if heading is None or "code" not in heading:
        raise Refused("invalid", f"{name[:100]}: the column code is missing")
    further = [one for one in heading if one not in OWN and not one.startswith(_TRANSLATED)]
    inactive = {
        "code": "inactive",
        "uri": "http://hl7.org/fhir/concept-properties#inactive",
        "type": "boolean",
    }
    properties = [inactive, {"code": "parent", "type": "code"}]
    properties += [{"code": one, "type": "string"} for one in further]
    label = "".join(c if c.isalnum() else "_" for c in wanted.url.rstrip("/").rpartition("/")[2])
    code_system = system(
        wanted.url,
        wanted.version,
        label or "Imported",
        caseSensitive=True,
        hierarchyMeaning="is-a",
        property=properties,
    )
    return Imported(code_system, _concepts(release, name, further))


def _concepts(release: Release, name: str, further: list[str]) -> Iterator[Json]:
    for number, row in enumerate(release.rows(name, ",", quoted=True), 2):
        if not row["code"]:
            raise Refused("invalid", f"{name[:100]}: row {number} has no code")
        yield _concept(row, further, number)


def _concept(row: Row, further: list[str], number: int) -> Json:
    found: dict[str, Any] = {"code": row["code"]}
    found |= {one: row[one] for one in ("display", "definition") if row.get(one)}
    names = [
        {"language": column.removeprefix(_TRANSLATED), "value": value}
        for column, value in row.items()
        if column.startswith(_TRANSLATED) and value
    ]
    properties: list[Json] = [
        coded("parent", parent) for parent in row.get("parent", "").split("|") if parent
    ]
    inactive = row.get("inactive", "").lower()
    if inactive not in ("", "true", "false"):
        raise Refused("invalid", f"row {number}: inactive is true or false")
    if inactive == "true":
        properties.append({"code": "inactive", "valueBoolean": True})
    properties += [{"code": one, "valueString": row[one]} for one in further if row[one]]
    found |= {"designation": names} if names else {}
    return {**found, "property": properties} if properties else found
