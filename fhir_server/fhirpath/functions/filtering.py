"""Filtering and projection: http://hl7.org/fhirpath/N1/#filtering-and-projection."""

from __future__ import annotations

from fhir_server.fhirpath.context import Lambda, Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Kind, function
from fhir_server.fhirpath.functions.types import of_type
from fhir_server.fhirpath.node import Collection, Node
from fhir_server.fhirpath.operators import contains_item


def where(run: Run, items: Collection, criteria: Lambda) -> Collection:
    kept: Collection = []
    for item, result in run.each(criteria, items):
        if not result:
            continue
        answer = result[0]
        if type(answer) is Node:
            answer = answer.value
        if len(result) > 1 or not isinstance(answer, bool):
            raise FhirPathError("where() takes criteria that are true or false")
        if answer:
            kept.append(item)
    return kept


def select(run: Run, items: Collection, projection: Lambda) -> Collection:
    found: Collection = []
    for _, result in run.each(projection, items):
        found.extend(result)
        run.bounded(found)
    return found


def repeat(run: Run, items: Collection, projection: Lambda) -> Collection:
    """The projection, and the projection of what it finds, each item once."""
    found: Collection = []
    seen: set[tuple[int, str, int | None]] = set()
    todo = items
    while todo:
        fresh: Collection = []
        for item in select(run, todo, projection):
            if isinstance(item, Node):
                place = (id(item.container), item.key, item.index)
                if place in seen:
                    continue
                seen.add(place)
            elif contains_item(run, found, item):
                continue
            fresh.append(item)
            found.append(item)
        todo = run.bounded(fresh)
        run.bounded(found)
    return found


FUNCTIONS = (
    function(
        "where",
        where,
        Kind.LAMBDA,
        doc="The items that meet the criteria",
        example=("(1 | 2 | 3).where($this > 1)", 2, 3),
    ),
    function(
        "select",
        select,
        Kind.LAMBDA,
        doc="What the projection gives for each item",
        example=("(1 | 2).select($this * 10)", 10, 20),
    ),
    function(
        "repeat",
        repeat,
        Kind.LAMBDA,
        doc="The projection, repeated on what it finds",
        example=("1.repeat(iif($this < 3, $this + 1, {}))", 2, 3),
    ),
    function(
        "ofType",
        of_type,
        Kind.TYPE,
        doc="The items of a type",
        example=("('a' | 1).ofType(Integer)", 1),
    ),
)
