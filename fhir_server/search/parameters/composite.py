"""composite: https://hl7.org/fhir/R4/search.html#combining

All parts hold for the same element, joined by ``$``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fhir_server.search.parameters.date import compile_date
from fhir_server.search.parameters.escape import split
from fhir_server.search.parameters.kind import Component, Criterion, Kind
from fhir_server.search.parameters.number import compile_number
from fhir_server.search.parameters.quantity import compile_quantity
from fhir_server.search.parameters.reference import compile_reference
from fhir_server.search.parameters.string import compile_string
from fhir_server.search.parameters.token import compile_token
from fhir_server.search.parameters.uri import compile_uri
from fhir_server.search.plan import All, Any, Composite, Predicate

_COMPILE: Final[Mapping[str, Callable[[Criterion], Predicate]]] = {
    "token": compile_token,
    "string": compile_string,
    "date": compile_date,
    "number": compile_number,
    "quantity": compile_quantity,
    "reference": compile_reference,
    "uri": compile_uri,
}


def compile_composite(criterion: Criterion) -> Predicate:
    """``part$part``, each as its own parameter reads it."""
    parts = tuple(_sought(criterion, value) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


def _sought(criterion: Criterion, value: str) -> Predicate:
    """The element, and what the whole resource must have then: that is where indexes help.

    Where the element is the resource, that is all.
    """
    components = criterion.parameter.components
    parts = split(value, "$")
    if len(parts) != len(components) or not all(parts):
        names = "$".join(component.code for component in components)
        raise criterion.bad(value, f"is not {names}")
    inner, outer = [], []
    for number, (component, part) in enumerate(zip(components, parts, strict=True)):
        if component.inner is not None:
            inner.append(_part(criterion, component, str(number), part))
        outer += _outer(criterion, component, part)
    if criterion.parameter.flat:
        return All(tuple(outer))
    return All((*outer, Composite(criterion.index, tuple(inner))))


def _part(criterion: Criterion, component: Component, index: str, value: str) -> Predicate:
    parameter = component.inner
    assert parameter is not None
    return _COMPILE[parameter.kind](
        Criterion(parameter, index, criterion.name, "", (value,), criterion.context)
    )


def _outer(criterion: Criterion, component: Component, value: str) -> list[Predicate]:
    whole = component.outer
    if whole is None:
        return []
    found = tuple(
        _COMPILE[whole.kind](
            Criterion(whole, index, criterion.name, "", (value,), criterion.context)
        )
        for index in whole.indexes
    )
    return [found[0] if len(found) == 1 else Any(found)]


COMPOSITE = Kind(
    name="composite",
    description="Several values of one element, joined by $",
    example="Observation?component-code-value-quantity=http://loinc.org|8480-6$gt120",
    compile=compile_composite,
    sortable=False,
    readers={},
)
