"""ICD-10-CM, from the tabular list that the CDC publishes as XML (``icd10cm_tabular_YYYY.xml``).

Codes are nested; those that want a seventh character name it once, for all codes below, and are
filled up with ``X``: https://www.cdc.gov/nchs/icd/icd-10-cm/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element

from terminology.concepts import Json
from terminology.importers.icd_10 import elements
from terminology.importers.release import Release, coded
from terminology.service import Refused

NAME: Final = r"(?:.*/)?icd-?10-?cm?[-_]tabular[-_].*\.xml"
FULL: Final = 6
"""Characters, without the dot, before the seventh."""
FILLER: Final = "X"
MOST_DEPTH: Final = 20
_NO_CODES: Final = re.compile(r"S06..[78][DS]")
"""What the list takes out in words alone, in the note of S06: who has died is not seen again."""


def version(release: Release, name: str) -> str:
    """As the list says it."""
    for element in elements(release, name, "version"):
        return (element.text or "").strip()
    return ""


def concepts(release: Release, name: str) -> Iterator[Json]:
    for chapter in elements(release, name, "chapter"):
        for section in chapter.findall("section"):
            for one in section.findall("diag"):
                yield from _concepts(one, "", (), 0)
        chapter.clear()


def _concepts(
    diag: Element, parent: str, above: tuple[tuple[str, str], ...], depth: int
) -> Iterator[Json]:
    """``above``: seventh characters, and their meaning, of what holds it."""
    code, display = _text(diag, "name"), _text(diag, "desc")
    if not code or depth > MOST_DEPTH:
        raise Refused("invalid", f"a diag without a name, or too deep: {code[:20]!r}")
    own = diag.find("sevenChrDef")
    seventh = above if own is None else tuple(_extensions(own))
    below = diag.findall("diag")
    ended = not below and not seventh
    yield _concept(code, display, parent, ended=ended, terms=_terms(diag))
    for one in below:
        yield from _concepts(one, code, seventh, depth + 1)
    for character, meaning in () if below else seventh:
        plain = code.replace(".", "").ljust(FULL, FILLER) + character
        if _NO_CODES.fullmatch(plain):
            continue
        text = f"{display}, {meaning}" if meaning else display
        yield _concept(f"{plain[:3]}.{plain[3:]}", text, code, ended=True, terms=[])


def _extensions(definition: Element) -> Iterator[tuple[str, str]]:
    for one in definition.findall("extension"):
        character = one.get("char", "").strip()
        if character:
            yield character, " ".join("".join(one.itertext()).split())


def _terms(diag: Element) -> list[str]:
    """Further names: inclusion terms."""
    notes = (note for term in diag.findall("inclusionTerm") for note in term.findall("note"))
    return [text for note in notes if (text := " ".join("".join(note.itertext()).split()))]


def _concept(code: str, display: str, parent: str, *, ended: bool, terms: list[str]) -> Json:
    found: dict[str, Any] = {"code": code}
    if display:
        found["display"] = display
    if terms:
        found["designation"] = [{"value": text} for text in dict.fromkeys(terms)]
    properties: list[Json] = [coded("parent", parent)] if parent else []
    if not ended:
        properties.append({"code": "notSelectable", "valueBoolean": True})
    return {**found, "property": properties} if properties else found


def _text(element: Element, name: str) -> str:
    return " ".join((element.findtext(name) or "").split())
