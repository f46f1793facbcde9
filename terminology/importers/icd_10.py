"""ICD-10 in ClaML (EN 14463), as the WHO and national editions publish it.

https://hl7.org/fhir/R4/icd.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from terminology.concepts import Json
from terminology.importers.release import Imported, Release, Wanted, coded, system
from terminology.service import Refused

URL: Final = "http://hl7.org/fhir/sid/icd-10"
BLOCK: Final = 1 << 16
_NAMES: Final = {"inclusion", "preferredLong"}
"""Rubrics that are further names of a class."""
_LANGUAGE: Final = "xml:lang"


def read(release: Release, wanted: Wanted) -> Imported:
    name = release.one(r"(?:.*/)?[^/]+\.(?:xml|claml)", "the ClaML file")
    version = wanted.version or _version(release, name)
    kind = {"code": "kind", "type": "code", "description": "chapter, block or category"}
    usage = {"code": "usage", "type": "string", "description": "dagger, aster or optional"}
    code_system = system(
        wanted.url or URL,
        version,
        "ICD_10",
        caseSensitive=True,
        hierarchyMeaning="is-a",
        property=[kind, usage, {"code": "parent", "type": "code"}],
    )
    return Imported(code_system, _concepts(release, name))


def _version(release: Release, name: str) -> str:
    for element in elements(release, name, "Title"):
        return str(element.get("version", ""))
    return ""


def _concepts(release: Release, name: str) -> Iterator[Json]:
    for element in elements(release, name, "Class"):
        yield _concept(element)
        element.clear()


def _concept(element: Element) -> Json:
    code, kind = element.get("code", ""), element.get("kind", "")
    if not code:
        raise Refused("invalid", "a Class without a code")
    rubrics = [(one.get("kind", ""), _label(one)) for one in element.iter("Rubric")]
    properties: list[Json] = [coded("kind", kind)] if kind else []
    if element.get("usage"):
        properties.append({"code": "usage", "valueString": element.get("usage", "")})
    properties += [coded("parent", one.get("code", "")) for one in element.findall("SuperClass")]
    found: dict[str, Any] = {"code": code}
    display = next((text for kind, (text, _) in rubrics if kind == "preferred"), "")
    if display:
        found["display"] = display
    names = [
        {"value": text, **({"language": language} if language else {})}
        for kind, (text, language) in rubrics
        if kind in _NAMES and text
    ]
    if names:
        found["designation"] = names
    return {**found, "property": properties} if properties else found


def _label(rubric: Element) -> tuple[str, str]:
    """The words and their language."""
    label = rubric.find("Label")
    if label is None:
        return "", ""
    return " ".join("".join(label.itertext()).split()), label.get(_LANGUAGE, "")


def elements(release: Release, name: str, tag: str) -> Iterator[Element]:
    """Every element of this name, when it ends. The document type that the standard demands is
    not read; one that declares entities is refused."""
    builder, finished = TreeBuilder(), list[Element]()

    def end(ended: str) -> None:
        element = builder.end(ended)
        if ended == tag:
            finished.append(element)

    def refuse(*_: object) -> None:
        raise Refused("invalid", f"{name[:100]}: declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    with release.open(name) as content:
        while True:
            block = content.read(BLOCK)
            try:
                parser.Parse(block, not block)
            except expat.ExpatError as error:
                raise Refused("invalid", f"{name[:100]}: {error}") from error
            yield from finished
            finished.clear()
            if not block:
                return
