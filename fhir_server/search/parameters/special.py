"""special: ``near``, https://hl7.org/fhir/R4/location.html#positional"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any as Value
from typing import Final

from fhir_server.model.datatypes import parse_number
from fhir_server.model.ucum import UcumError, canonical
from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.plan import Any, Near, Predicate
from fhir_server.search.values import GroupValue, IndexValues, NumberValue

KILOMETRES: Final = "km"
DISTANCE: Final = Decimal(50)
"""In kilometres, where the search does not state one."""


def _position(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        if "latitude" in value and "longitude" in value:
            degrees = float(value["latitude"]), float(value["longitude"])
            numbers = [NumberValue(str(n), degree, degree) for n, degree in enumerate(degrees)]
            out.groups.append(GroupValue(index, IndexValues(numbers=numbers)))

    return emit


def compile_near(criterion: Criterion) -> Predicate:
    """``latitude|longitude|distance|units``; units are of UCUM, default km."""
    parts = tuple(_near(criterion, value) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


def _near(criterion: Criterion, value: str) -> Near:
    parts = [unescape(part) for part in split(value, "|")]
    if not 2 <= len(parts) <= 4:
        raise criterion.bad(value, "is not latitude|longitude|distance|units")
    latitude, longitude, distance, units = (*parts, "", "")[:4]
    try:
        north, east = float(parse_number(latitude)), float(parse_number(longitude))
        far = parse_number(distance) if distance else DISTANCE
        metres, unit = canonical(Decimal(far), units or KILOMETRES)
    except (ValueError, UcumError) as error:
        raise criterion.bad(value, f"is not latitude|longitude|distance|units: {error}") from None
    if unit != "m" or metres < 0 or not (-90 <= north <= 90 and -180 <= east <= 180):
        raise criterion.bad(value, "is not a place on Earth and a length")
    return Near(criterion.index, north, east, min(float(metres), math.inf))


SPECIAL = Kind(
    name="special",
    description="near: latitude|longitude|distance|units, default km",
    example="Location?near=50.45|30.52|10|km",
    compile=compile_near,
    sortable=False,
    readers={"BackboneElement": _position},
)
