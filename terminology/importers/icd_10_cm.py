"""ICD-10-CM, from the order file that the CDC and CMS publish (``icd10cm_order_YYYY.txt``), or from
the tabular list (``icd_10_cm_tabular.py``) where that is not there.

Columns: 1-5 order number, 7-13 code without its dot, 15 whether it is valid for submission,
17-76 short description, 78- long description. https://hl7.org/fhir/R4/icd.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from terminology.concepts import Json
from terminology.importers import icd_10_cm_tabular
from terminology.importers.release import Imported, Release, Wanted, coded, system
from terminology.service import Refused

URL: Final = "http://hl7.org/fhir/sid/icd-10-cm"
_NAME: Final = r"(?:.*/)?icd-?10-?cm[-_]order[-_](?:\w+[-_])?(\d{4})\.txt"
CATEGORY: Final = 3
"""Characters before the dot."""


def read(release: Release, wanted: Wanted) -> Imported:
    listed = None if release.find(_NAME) else release.find(icd_10_cm_tabular.NAME)
    if listed:
        name = release.one(icd_10_cm_tabular.NAME, "icd10cm_tabular_YYYY.xml")
        said, concepts = icd_10_cm_tabular.version(release, name), icd_10_cm_tabular.concepts
    else:
        name = release.one(_NAME, "icd10cm_order_YYYY.txt, or icd10cm_tabular_YYYY.xml,")
        year = re.fullmatch(_NAME, name, re.IGNORECASE)
        said, concepts = year[1] if year else "", _concepts
    selectable = {
        "code": "notSelectable",
        "uri": "http://hl7.org/fhir/concept-properties#notSelectable",
        "type": "boolean",
    }
    code_system = system(
        URL,
        wanted.version or said,
        "ICD_10_CM",
        caseSensitive=False,
        hierarchyMeaning="is-a",
        property=[selectable, {"code": "parent", "type": "code"}],
    )
    return Imported(code_system, concepts(release, name))


def _concepts(release: Release, name: str) -> Iterator[Json]:
    """A code lies below the longest one that begins it; in the file that one is before it."""
    above: list[str] = []
    with release.text(name) as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                continue
            plain, valid = line[6:13].strip(), line[14:15]
            if not plain or valid not in ("0", "1"):
                raise Refused("invalid", f"{name[:100]}: line {number} is not of the order file")
            while above and not plain.startswith(above[-1]):
                above.pop()
            yield _concept(plain, valid, line[77:].strip(), line[16:76].strip(), above)
            above.append(plain)


def _concept(plain: str, valid: str, long: str, short: str, above: list[str]) -> Json:
    found: dict[str, Any] = {"code": _dotted(plain), "display": long or short}
    if short and short != found["display"]:
        found["designation"] = [{"value": short}]
    properties: list[Json] = [coded("parent", _dotted(above[-1]))] if above else []
    if valid == "0":
        properties.append({"code": "notSelectable", "valueBoolean": True})
    return {**found, "property": properties} if properties else found


def _dotted(plain: str) -> str:
    return f"{plain[:CATEGORY]}.{plain[CATEGORY:]}" if len(plain) > CATEGORY else plain
