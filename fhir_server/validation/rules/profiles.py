"""Profiles on datatypes that the base definitions use: SimpleQuantity.

https://hl7.org/fhir/R4/datatypes.html#SimpleQuantity
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fhir_server.model.exchange import Json

from .fault import Fault, Rule


def simple_quantity(quantity: Json) -> Fault | None:
    """sqty-1: the comparator is not used on a SimpleQuantity."""
    if "comparator" in quantity or "_comparator" in quantity:
        return Fault("invariant", "must not have a comparator here (sqty-1)")
    return None


PROFILES: Mapping[str, Rule] = MappingProxyType(
    {"http://hl7.org/fhir/StructureDefinition/SimpleQuantity": simple_quantity}
)
