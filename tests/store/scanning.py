"""Plans of the tests of searches."""

from __future__ import annotations

from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import (
    QuantityValue,
)

UCUM = "http://unitsofmeasure.org"


def scan(where: plan.Predicate = plan.TRUE, type_: str = "Observation") -> Search:
    return Search((Scan(type_, where),))


def quantity(value: float, unit: str, canonical: float, canonical_unit: str) -> QuantityValue:
    return QuantityValue(
        "value", value, value, UCUM, unit, unit, canonical, canonical, canonical_unit
    )
