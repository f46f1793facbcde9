"""Maximal instances of every resource type, made from the definitions.

Every element is there, every choice in some variant, every string-like value bears a mark of
its own; what bears which is remembered.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions
from fhir_server.model.exchange import Json

DATE, TIME = "1987-03-14", "11:22:33"
NUMBERS: dict[str, Any] = {
    "boolean": True,
    "integer": 7,
    "positiveInt": 7,
    "unsignedInt": 7,
    "decimal": Decimal("1.50"),
}
DATES = {
    "date": DATE,
    "dateTime": f"{DATE}T{TIME}+02:00",
    "instant": f"{DATE}T{TIME}.123+02:00",
    "time": TIME,
}
RARE = ("ElementDefinition", "SubstanceAmount")
"""Datatypes with choices that the variants of other types do not go through."""
DEEPEST = 9
"""Levels below the resource; each datatype opens once on a path, so little lies deeper."""


@dataclass
class Maker:
    """``variant`` picks the member of each choice. ``valid``: bound codes come from their value
    sets, so that the instance is valid; else they are marked like everything else."""

    definitions: Definitions
    variant: int = 0
    valid: bool = False
    planted: dict[str, str] = field(default_factory=dict)
    """mark -> where: the type or element path and the member that bears it."""

    def resource(self, type_: str) -> Json:
        return {"resourceType": type_, **self._object(type_, (type_,))}

    def variants(self, type_: str) -> int:
        """How many variants show every choice in the type and in the RARE datatypes it uses."""
        own = self._members(type_)
        inner = [m for _, ref in own if ref.code in RARE for m in self._members(ref.code)]
        return max(len(element.types) for element, _ in [*own, *inner])

    def _members(self, type_: str) -> list[tuple[Element, TypeRef]]:
        elements = self.definitions.type(type_).elements.values()
        return [(element, ref) for element in elements for ref in element.types]

    def _object(self, content: str, above: tuple[str, ...]) -> Json:
        made: Json = {}
        chosen: dict[str, list[tuple[str, Element, TypeRef]]] = {}
        for key, (element, type_) in self.definitions.members(content).items():
            chosen.setdefault(element.name, []).append((key, element, type_))
        if content == "Extension" and self.variant % 7 != 6:
            del chosen["extension"]
        elif content == "Extension":
            del chosen["value"]
        for choices in chosen.values():
            key, element, type_ = choices[self.variant % len(choices)]
            self._member(made, content, (key, element, type_), above)
        return made

    def _member(
        self,
        made: Json,
        content: str,
        member: tuple[str, Element, TypeRef],
        above: tuple[str, ...],
    ) -> None:
        key, element, type_ = member
        many = element.max is None or element.max > 1
        kind = self.definitions.type(type_.code).kind
        if kind == "primitive-type":
            value = self._primitive(f"{content}.{key}", element, type_.code)
            made[key] = [value] if many else value
            if len(above) < 4 and element.name not in ("id", "url", "div"):
                beside = {"id": self._mark(f"{content}._{key}.id"), "extension": [self._foreign()]}
                made["_" + key] = [beside] if many else beside
            return
        if kind == "resource":
            if key == "contained":
                made[key] = [self._contained()]
            return
        below = self._below(element, type_)
        if (below in above or len(above) > DEEPEST) and element.min == 0:
            return
        value = self._object(below, (*above, below)) if below not in above else {}
        if value:
            made[key] = [value] if many else value

    def _below(self, element: Element, type_: TypeRef) -> str:
        if element.content_reference is not None:
            return element.content_reference
        backbone = type_.code in ("BackboneElement", "Element")
        return element.path if backbone else type_.code

    def _primitive(self, where: str, element: Element, type_: str) -> Any:
        if type_ in NUMBERS:
            return NUMBERS[type_]
        if type_ in DATES:
            return DATES[type_]
        if type_ == "code" and self.valid and element.binding:
            codes = self.definitions.value_set_codes(element.binding.value_set)
            if element.binding.strength == "required" and codes:
                return min(codes)
        mark = self._mark(where)
        match type_:
            case "base64Binary":
                return base64.b64encode(mark.encode()).decode()
            case "uri" | "url" | "canonical":
                return f"http://example.org/{mark}"
            case "xhtml":
                return f'<div xmlns="http://www.w3.org/1999/xhtml">{mark}</div>'
            case "oid":
                return f"urn:oid:1.2.{int(mark[6:])}"
            case "uuid":
                return f"urn:uuid:00000000-0000-4000-8000-{int(mark[6:]):012d}"
        return mark

    def _mark(self, where: str) -> str:
        mark = f"CANARY{len(self.planted) + 100000:06d}"
        self.planted[mark] = where
        return mark

    def _foreign(self) -> Json:
        return {
            "url": f"http://example.org/{self._mark('Extension.url')}",
            "valueString": self._mark("Extension.valueString"),
        }

    def _contained(self) -> Json:
        return {
            "resourceType": "Basic",
            "id": self._mark("Basic.id"),
            "code": {"text": self._mark("CodeableConcept.text")},
        }
