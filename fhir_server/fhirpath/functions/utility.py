"""Utility: http://hl7.org/fhirpath/N1/#utility-functions; iif and aggregate."""

from __future__ import annotations

from fhir_server.fhirpath.context import Lambda, Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Kind, function, value_of
from fhir_server.fhirpath.node import Collection, Node
from fhir_server.fhirpath.values import Date, DateTime, Time


def iif(
    run: Run, items: Collection, criterion: Lambda, then: Lambda, otherwise: Lambda | None = None
) -> Collection:
    if len(items) > 1:
        raise FhirPathError("iif() takes at most one item")
    result = criterion(items, run)
    answer = result[0] if result else False
    if isinstance(answer, Node):
        answer = answer.value
    if len(result) > 1 or not isinstance(answer, bool):
        raise FhirPathError("iif() takes a criterion that is true or false")
    if answer:
        return then(items, run)
    return otherwise(items, run) if otherwise else []


def trace(
    run: Run, items: Collection, name: Collection, projection: Lambda | None = None
) -> Collection:
    label = value_of("trace", Kind.TEXT, name)
    report = run.context.services.trace
    if report is not None:
        shown = items
        if projection is not None:
            shown = [found for _, result in run.each(projection, items) for found in result]
        report(label or "", shown)
    return items


def now(run: Run, items: Collection) -> Collection:
    return [DateTime.of(run.now())]


def today(run: Run, items: Collection) -> Collection:
    return [Date(DateTime.of(run.now()).parts[:3])]


def time_of_day(run: Run, items: Collection) -> Collection:
    return [Time(DateTime.of(run.now()).parts[3:])]


def aggregate(
    run: Run, items: Collection, aggregator: Lambda, initial: Collection | None = None
) -> Collection:
    run.spend(len(items))
    outer_total, outer_index = run.total, run.index
    run.total = initial or []
    for run.index, item in enumerate(items):
        run.total = run.bounded(aggregator([item], run))
    total, run.total, run.index = run.total, outer_total, outer_index
    return total


def define_variable(
    run: Run, items: Collection, name: Collection, value: Lambda | None = None
) -> Collection:
    label = value_of("defineVariable", Kind.TEXT, name)
    if label is None:
        raise FhirPathError("defineVariable() takes a name")
    run.variables[label] = items if value is None else value(items, run)
    return items


FUNCTIONS = (
    function(
        "iif",
        iif,
        Kind.LAMBDA,
        Kind.LAMBDA,
        Kind.LAMBDA,
        optional=1,
        doc="One of two, only that one evaluated",
        example=("iif(1 > 2, 'a', 'b')", "b"),
    ),
    function(
        "trace",
        trace,
        Kind.COLLECTION,
        Kind.LAMBDA,
        optional=1,
        doc="The input, reported to the trace service",
        example=("1.trace('one')", 1),
    ),
    function("now", now, doc="The moment of evaluation", example=("now() = now()", True)),
    function("today", today, doc="The day of evaluation", example=("today() = today()", True)),
    function(
        "timeOfDay",
        time_of_day,
        doc="The time of evaluation",
        example=("timeOfDay() = timeOfDay()", True),
    ),
    function(
        "aggregate",
        aggregate,
        Kind.LAMBDA,
        Kind.COLLECTION,
        optional=1,
        doc="Folded into $total",
        example=("(1 | 2 | 3).aggregate($this + $total, 0)", 6),
    ),
    function(
        "defineVariable",
        define_variable,
        Kind.COLLECTION,
        Kind.LAMBDA,
        optional=1,
        doc="The input, kept as %name for the rest of the expression",
        example=("2.defineVariable('n').select(%n + 1)", 3),
    ),
)
