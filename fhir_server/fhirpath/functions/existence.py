"""Existence: http://hl7.org/fhirpath/N1/#existence."""

from __future__ import annotations

from fhir_server.fhirpath.context import Lambda, Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.filtering import where
from fhir_server.fhirpath.functions.registry import Kind, function
from fhir_server.fhirpath.node import Collection, Node
from fhir_server.fhirpath.operators import boolean, contains_item, distinct


def empty(run: Run, items: Collection) -> Collection:
    return [not items]


def exists(run: Run, items: Collection, criteria: Lambda | None = None) -> Collection:
    return [bool(items if criteria is None else where(run, items, criteria))]


def not_(run: Run, items: Collection) -> Collection:
    value = boolean(items, "not()")
    return [] if value is None else [not value]


def all_(run: Run, items: Collection, criteria: Lambda) -> Collection:
    return [all(boolean(r, "all()") is True for _, r in run.each(criteria, items))]


def _booleans(items: Collection) -> list[bool]:
    values = [item.system if isinstance(item, Node) else item for item in items]
    found = [value for value in values if isinstance(value, bool)]
    if len(found) != len(values):
        raise FhirPathError("Only booleans are all or any of true and false")
    return found


def all_true(run: Run, items: Collection) -> Collection:
    return [all(_booleans(items))]


def any_true(run: Run, items: Collection) -> Collection:
    return [any(_booleans(items))]


def all_false(run: Run, items: Collection) -> Collection:
    return [not any(_booleans(items))]


def any_false(run: Run, items: Collection) -> Collection:
    return [not all(_booleans(items))]


def subset_of(run: Run, items: Collection, other: Collection) -> Collection:
    return [all(contains_item(run, other, item) for item in items)]


def superset_of(run: Run, items: Collection, other: Collection) -> Collection:
    return subset_of(run, other, items)


def count(run: Run, items: Collection) -> Collection:
    return [len(items)]


def distinct_(run: Run, items: Collection) -> Collection:
    return distinct(run, items)


def is_distinct(run: Run, items: Collection) -> Collection:
    return [len(distinct(run, items)) == len(items)]


FUNCTIONS = (
    function("empty", empty, doc="No items?", example=("{}.empty()", True)),
    function(
        "exists",
        exists,
        Kind.LAMBDA,
        optional=1,
        doc="Any item (that meets the criteria)?",
        example=("(1 | 2).exists($this > 1)", True),
    ),
    function("not", not_, doc="The other boolean", example=("true.not()", False)),
    function(
        "all",
        all_,
        Kind.LAMBDA,
        doc="Do all items meet the criteria?",
        example=("(1 | 2).all($this > 1)", False),
    ),
    function("allTrue", all_true, doc="All true?", example=("(true | false).allTrue()", False)),
    function("anyTrue", any_true, doc="Any true?", example=("(true | false).anyTrue()", True)),
    function("allFalse", all_false, doc="All false?", example=("(true | false).allFalse()", False)),
    function("anyFalse", any_false, doc="Any false?", example=("(true | false).anyFalse()", True)),
    function(
        "subsetOf",
        subset_of,
        Kind.COLLECTION,
        doc="Are all items in the other collection?",
        example=("(1 | 2).subsetOf(1 | 2 | 3)", True),
    ),
    function(
        "supersetOf",
        superset_of,
        Kind.COLLECTION,
        doc="Are all items of the other collection here?",
        example=("(1 | 2).supersetOf(1 | 2 | 3)", False),
    ),
    function("count", count, doc="How many items", example=("(4 | 5).count()", 2)),
    function(
        "distinct",
        distinct_,
        doc="The items without repetitions",
        example=("1.combine(1).distinct()", 1),
    ),
    function(
        "isDistinct",
        is_distinct,
        doc="No repetitions?",
        example=("1.combine(1).isDistinct()", False),
    ),
)
