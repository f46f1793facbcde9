"""Just enough of https://hl7.org/fhir/R4/xml.html to read the inputs of the suite."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from decimal import Decimal
from pathlib import Path
from typing import Any

from fhir_server.definitions.registry import Definitions, load

_FHIR = "{http://hl7.org/fhir}"
_XHTML = "{http://www.w3.org/1999/xhtml}"
_INTEGERS = ("integer", "positiveInt", "unsignedInt")


def read(path: Path) -> dict[str, Any]:
    """The JSON of an XML resource file of the test data."""
    return _resource(ElementTree.parse(path).getroot(), load())


def _resource(element: ElementTree.Element, definitions: Definitions) -> dict[str, Any]:
    type_ = element.tag.removeprefix(_FHIR)
    return {"resourceType": type_, **_fields(element, type_, definitions)}


def _fields(element: ElementTree.Element, path: str, definitions: Definitions) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: element.attrib[name] for name in ("id", "url") if name in element.attrib
    }
    members = definitions.members(path)
    for child in element:
        name = child.tag.removeprefix(_FHIR)
        if child.tag.startswith(_XHTML):
            fields["div"] = ElementTree.tostring(child, encoding="unicode")
            continue
        member, type_ = members[name]
        below = member.path if type_.code in ("BackboneElement", "Element") else type_.code
        value, sibling = _value(child, type_.code, below, definitions)
        for key, part in ((name, value), ("_" + name, sibling)):
            if member.max == 1 and part is not None:
                fields[key] = part
            elif member.max != 1:
                fields.setdefault(key, []).append(part)
    for key in [key for key, value in fields.items() if isinstance(value, list)]:
        if all(item is None for item in fields[key]):
            del fields[key]
    return fields


def _value(
    element: ElementTree.Element, type_: str, path: str, definitions: Definitions
) -> tuple[Any, Any]:
    if type_ == "Resource":
        return _resource(element[0], definitions), None
    if definitions.type(type_).kind != "primitive-type":
        return _fields(element, path, definitions), None
    text = element.get("value")
    sibling = _fields(element, "Element", definitions) or None
    return None if text is None else _primitive(type_, text), sibling


def _primitive(type_: str, text: str) -> Any:
    if type_ == "boolean":
        return text == "true"
    if type_ in _INTEGERS:
        return int(text)
    return Decimal(text) if type_ == "decimal" else text
