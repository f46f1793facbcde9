"""Ids and references to codes: random ones, or pseudonyms by the key of a project.

45 CFR 164.514(c): a code must not be derived from information about the individual. Random codes
live as long as one answer; no key to them is kept.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import (
    PROJECT,
    Given,
    Leaf,
    Method,
    Node,
    Site,
    dropped,
    text,
)

URIS: Final = "urn:ietf:rfc:3986"
"""https://hl7.org/fhir/R4/identifier-registry.html: the value is itself a URI"""


class Surrogate(Method):
    """Resource.id, Reference, fullUrl and other ids: the same gets the same code everywhere.

    A Reference keeps its literal reference (coded) and the type of its target; logical
    identifier and display go. The code of a target that the answer does not hold is told as a
    logical reference: as a literal one it would have to resolve
    (https://hl7.org/fhir/R4/references.html#logical). Of canonicals only names of contained
    resources stay.
    """

    keyed = False

    def __init__(self, given: Given) -> None:
        self._types: Container[str] = given["resourceTypes"]

    def leaf(self, site: Site) -> Leaf:
        keyed = self.keyed
        if site.key == "fullUrl":
            return lambda value, _around, run: run.reference(value, keyed).text
        if site.type == "canonical":
            return _local
        if site.type != "id":
            return dropped
        if site.key != "id":
            return lambda value, _around, run: run.code(f"id {value}", keyed)
        type_ = site.path.partition(".")[0]

        def recode(value: Any, _around: Json, run: Run) -> Any:
            if run.inside:
                return run.contained_code(value)
            return run.code(f"{type_}/{value}", keyed)

        return recode

    def node(self, site: Site) -> Node | None:
        if site.type != "Reference":
            return lambda _walked, _run: {}
        return self._reference

    def _reference(self, walked: Json, run: Run) -> Json:
        result: Json = {}
        type_ = text(walked.get("type"))
        literal = text(walked.get("reference"))
        if literal:
            coded = run.reference(literal, self.keyed)
            if coded.resolves:
                result["reference"] = coded.text
            else:
                result["identifier"] = {"system": URIS, "value": coded.text}
            type_ = coded.type or type_
        if type_ in self._types:
            result["type"] = type_
        return result


class Pseudonym(Surrogate):
    """As Surrogate, but by a keyed hash: the same in every answer for a project."""

    keyed = True
    needs = frozenset((PROJECT,))


def _local(value: Any, _around: Json, run: Run) -> Any:
    return run.reference(value).text if value.startswith("#") else DROP
