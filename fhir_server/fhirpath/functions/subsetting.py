"""Subsetting: http://hl7.org/fhirpath/N1/#subsetting."""

from __future__ import annotations

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Kind, function, value_of
from fhir_server.fhirpath.node import Collection
from fhir_server.fhirpath.operators import contains_item, distinct


def single(run: Run, items: Collection) -> Collection:
    if len(items) > 1:
        raise FhirPathError(f"single() takes one item, not {len(items)}")
    return items


def first(run: Run, items: Collection) -> Collection:
    return items[:1]


def last(run: Run, items: Collection) -> Collection:
    return items[-1:]


def tail(run: Run, items: Collection) -> Collection:
    return items[1:]


def skip(run: Run, items: Collection, count: Collection) -> Collection:
    number = value_of("skip", Kind.INTEGER, count)
    return [] if number is None else items[max(number, 0) :]


def take(run: Run, items: Collection, count: Collection) -> Collection:
    number = value_of("take", Kind.INTEGER, count)
    return [] if number is None else items[: max(number, 0)]


def intersect(run: Run, items: Collection, other: Collection) -> Collection:
    return distinct(run, [item for item in items if contains_item(run, other, item)])


def exclude(run: Run, items: Collection, other: Collection) -> Collection:
    return [item for item in items if not contains_item(run, other, item)]


FUNCTIONS = (
    function("single", single, doc="The only item; fails on many", example=("7.single()", 7)),
    function("first", first, doc="The first item", example=("(4 | 5).first()", 4)),
    function("last", last, doc="The last item", example=("(4 | 5).last()", 5)),
    function("tail", tail, doc="All but the first", example=("(4 | 5 | 6).tail()", 5, 6)),
    function(
        "skip", skip, Kind.COLLECTION, doc="All but the first n", example=("(4 | 5).skip(1)", 5)
    ),
    function("take", take, Kind.COLLECTION, doc="The first n", example=("(4 | 5).take(1)", 4)),
    function(
        "intersect",
        intersect,
        Kind.COLLECTION,
        doc="The items in both, once each",
        example=("(1 | 2 | 3).intersect(2 | 4)", 2),
    ),
    function(
        "exclude",
        exclude,
        Kind.COLLECTION,
        doc="The items not in the other collection",
        example=("(1 | 2 | 3).exclude(2)", 1, 3),
    ),
)
