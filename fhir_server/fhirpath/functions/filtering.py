"""Filtering and projection: http://hl7.org/fhirpath/N1/#filtering-and-projection."""

from __future__ import annotations

from functools import cmp_to_key

from fhir_server.fhirpath.context import Lambda, Run
from fhir_server.fhirpath.equality import compare
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Kind, SortKey, function
from fhir_server.fhirpath.functions.types import of_type
from fhir_server.fhirpath.node import Collection, Node
from fhir_server.fhirpath.operators import contains_item


def where(run: Run, items: Collection, criteria: Lambda) -> Collection:
    kept: Collection = []
    run.spend(len(items))
    outer = run.index
    for run.index, item in enumerate(items):
        result = criteria([item], run)
        if result and _true(result):
            kept.append(item)
    run.index = outer
    return kept


def _true(result: Collection) -> bool:
    answer = result[0]
    if type(answer) is Node:
        answer = answer.value
    if len(result) > 1 or not isinstance(answer, bool):
        raise FhirPathError("where() takes criteria that are true or false")
    return answer


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


def sort(run: Run, items: Collection, *keys: SortKey) -> Collection:
    """By the keys in turn; an item without a key comes first."""
    keys = keys or (SortKey(lambda this, run: this, descending=False),)
    columns = [[result for _, result in run.each(key.lambda_, items)] for key in keys]

    def order(i: int, j: int) -> int:
        for key, column in zip(keys, columns, strict=True):
            answer = _order(run, column[i], column[j], key.descending)
            if answer:
                return answer
        return 0

    return [items[i] for i in sorted(range(len(items)), key=cmp_to_key(order))]


def _order(run: Run, left: Collection, right: Collection, descending: bool) -> int:
    run.spend(1)
    if not left or not right:
        return bool(left) - bool(right)
    if len(left) > 1 or len(right) > 1:
        raise FhirPathError("sort() takes keys of one item")
    answer = compare(run, left[0], right[0]) or 0
    return -answer if descending else answer


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
        "sort",
        sort,
        Kind.KEY,
        optional=1,
        repeats=True,
        doc="In order of the keys (3.0)",
        example=("(2 | 3 | 1).sort(-$this)", 3, 2, 1),
    ),
    function(
        "ofType",
        of_type,
        Kind.TYPE,
        doc="The items of a type",
        example=("('a' | 1).ofType(Integer)", 1),
    ),
)
