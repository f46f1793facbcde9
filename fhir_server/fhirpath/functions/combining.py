"""Combining: http://hl7.org/fhirpath/N1/#combining."""

from __future__ import annotations

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.functions.registry import Kind, function
from fhir_server.fhirpath.node import Collection
from fhir_server.fhirpath.operators import union


def combine(run: Run, items: Collection, other: Collection) -> Collection:
    return run.bounded([*items, *other])


FUNCTIONS = (
    function(
        "union",
        union,
        Kind.COLLECTION,
        doc="Both, without repetitions",
        example=("1.union(1 | 2)", 1, 2),
    ),
    function(
        "combine", combine, Kind.COLLECTION, doc="Both, as they are", example=("1.combine(1)", 1, 1)
    ),
)
