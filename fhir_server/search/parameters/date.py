"""date: https://hl7.org/fhir/R4/search.html#date"""

from __future__ import annotations

from functools import lru_cache
from typing import Any as Value
from typing import cast

from fhir_server.model.datatypes import (
    ALWAYS,
    PREFIXES,
    Span,
    approximate_span,
    parse_datetime,
    parse_period,
    parse_search_date,
    split_prefix,
)
from fhir_server.search.parameters.escape import unescape
from fhir_server.search.parameters.kind import Context, Criterion, Emit, Kind, Site
from fhir_server.search.plan import Any, DateIs, Predicate, Prefix
from fhir_server.search.values import DateValue, IndexValues

# The resources of one patient share many of their dates.
_span = lru_cache(maxsize=16384)(parse_datetime)


def _moment(index: str, site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        try:
            lo, hi = _span(value, site.zone)
        except ValueError:
            return
        out.dates.append(DateValue(index, lo, hi))

    return emit


def _period(index: str, site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        span = _period_span(value, site)
        if span is not None and span != ALWAYS:
            out.dates.append(DateValue(index, *span))

    return emit


def _period_span(value: Value, site: Site) -> Span | None:
    try:
        return parse_period(value.get("start"), value.get("end"), site.zone)
    except ValueError:
        return None


def _timing(index: str, site: Site) -> Emit:
    """The outer limits of a Timing; the details of the schedule do not matter."""

    def emit(value: Value, out: IndexValues) -> None:
        spans = []
        for event in value.get("event", ()):
            try:
                spans.append(_span(event or "", site.zone))
            except ValueError:
                continue
        bounds = value.get("repeat", {}).get("boundsPeriod")
        if bounds is not None and (span := _period_span(bounds, site)) and span != ALWAYS:
            spans.append(span)
        if spans:
            out.dates.append(DateValue(index, min(s.lo for s in spans), max(s.hi for s in spans)))

    return emit


def search_span(value: str, context: Context) -> tuple[Prefix, Span]:
    """Prefix and range of a search value, ``ap`` widened. Raises ValueError."""
    prefix, text = split_prefix(unescape(value))
    span = parse_search_date(text, context.zone)
    if prefix == "ap":
        span = approximate_span(span, context.now)
    return cast(Prefix, prefix), span


def compile_date(criterion: Criterion) -> Predicate:
    parts = []
    for value in criterion.values:
        try:
            prefix, span = search_span(value, criterion.context)
        except ValueError as error:
            raise criterion.bad(value, f"is not a date: {error}") from None
        parts.append(DateIs(criterion.index, prefix, *span))
    return parts[0] if len(parts) == 1 else Any(tuple(parts))


DATE = Kind(
    name="date",
    description="A date or a period, compared as ranges; without a zone it is in UTC",
    example="Observation?date=ge2024-01-01",
    prefixes=PREFIXES,
    compile=compile_date,
    readers={
        "date": _moment,
        "dateTime": _moment,
        "instant": _moment,
        "Period": _period,
        "Timing": _timing,
    },
)
