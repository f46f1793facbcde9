"""generalize: a value to a less telling one, by cases in FHIRPath."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluate import Expression
from fhir_server.fhirpath.node import Node as Element
from fhir_server.fhirpath.node import Property
from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import Given, Leaf, Method, Node, Site
from operations.deid.transforms.basic import typed

_OTHERS: Final = ("redact", "keep")


class Generalise(Method):
    """``cases``: criterion -> new value, both FHIRPath over ``$this``; the first that holds counts.
    ``otherValues``: ``redact`` or ``keep`` where none does. Of primitives only."""

    def __init__(self, given: Given) -> None:
        cases = given.get("cases")
        if not isinstance(cases, Mapping) or not cases:
            raise ValueError("cases is an object of criteria and values")
        self._keep = given.one_of("otherValues", _OTHERS) == "keep"
        try:
            self._cases = [(Expression(str(c)), Expression(str(v))) for c, v in cases.items()]
        except (FhirPathError, ValueError) as error:
            raise ValueError(f"cases: {error}") from None

    def leaf(self, site: Site) -> Leaf:
        place = Property(site.key, site.key, site.type)

        def generalise(value: Any, _around: Json, _run: Run) -> Any:
            this = Element(value, None, None, place, None)
            for criterion, result in self._cases:
                if criterion.holds(this):
                    return _json(result.evaluate(this), site.type)
            return value if self._keep else DROP

        return generalise

    def node(self, site: Site) -> Node | None:
        return lambda _walked, _run: {}


def _json(values: list[Any], type_: str) -> Any:
    """One value, as the JSON of the type; without one, or as another type, it goes."""
    if len(values) != 1:
        return DROP
    value = values[0]
    found = typed(value if isinstance(value, bool | int | Decimal) else str(value), type_)
    return DROP if found is None else found
