"""maxLength, minValue and maxValue: https://hl7.org/fhir/R4/elementdefinition.html"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.fhirpath import Node
from fhir_server.model.exchange import Json

from .judging import Check, Judging
from .values import shown


def limits(element: Json) -> Iterator[Check]:
    """The checks of an ElementDefinition's limits."""
    if "maxLength" in element:
        yield _length(element["maxLength"])
    for name, value in element.items():
        for kind, sign in (("minValue", 1), ("maxValue", -1)):
            if name.startswith(kind) and not isinstance(value, dict):
                yield _value(value, sign)


def _length(most: int) -> Check:
    def check(node: Node, judging: Judging) -> None:
        if isinstance(node.value, str) and len(node.value) > most:
            judging.add(node, "too-long", f"has more than {most} characters")

    return check


def _value(limit: Any, sign: int) -> Check:
    """Numbers, and dates and times, of which texts of one form are in order."""

    def check(node: Node, judging: Judging) -> None:
        value = node.value
        try:
            beyond = value < limit if sign > 0 else value > limit
        except TypeError:
            return
        if beyond:
            word = "least" if sign > 0 else "most"
            judging.add(node, "value", f"must be at {word} {shown(limit)}")

    return check
