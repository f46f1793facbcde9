"""DocumentReference/$docref: the documents of a patient, as US Core has servers offer them.

https://hl7.org/fhir/us/core/STU6.1/OperationDefinition-docref.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import FUTURE, PAST, parse_datetime
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Stored
from fhir_server.search.link import query_string
from fhir_server.search.plan import All, Any, DateIs, Not, Predicate, Present, both
from fhir_server.search.schema import SearchSchema

from .lastn import grouped, labels
from .observed import codings
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .searchset import Searchsets, every

TYPE: Final = "DocumentReference"
CANONICAL: Final = "http://hl7.org/fhir/us/core/OperationDefinition/docref"
INPUTS: Final = (
    Parameter("patient", "id", "The id of the Patient; no match gives an empty Bundle", min=1),
    Parameter("start", "dateTime", "Only documents about care at this time or later"),
    Parameter("end", "dateTime", "Only documents about care at this time or earlier"),
    Parameter("type", "Token", "Only documents of one of these types; none: of any", max=None),
    Parameter("on-demand", "boolean", "true: no stored documents, only those made on demand"),
    Parameter("profile", "canonical", "Only what claims one of these profiles", max=None),
)
DESCRIPTION: Final = (
    "The documents of a patient. With a start or an end, all that are about care in that time (by "
    "context.period, else by date); without, the most recent of each type, a C-CDA CCD (LOINC "
    "34133-9) among them where one is stored. Only documents that are current; of several types "
    "or profiles any. No documents are made on demand: on-demand=true gives an empty Bundle."
)


def docref(sets: Searchsets) -> Operation:
    """The row."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Response:
        asked = tuple((r.name, _text(value)) for r in INPUTS for value in arguments.all(r.name))
        found = await _found(sets, arguments, session)
        base = call.base.encode()
        entries = [sets.entry(base, stored, b"match") for stored in found]
        links = [("self", f"{call.base}/{TYPE}/$docref?{query_string(asked)}")]
        return Response(200, sets.bundle("searchset", entries, total=len(found), links=links))

    return Operation(
        code="docref",
        levels=frozenset(("type",)),
        types=(TYPE,),
        affects_state=False,
        inputs=INPUTS,
        outputs=(Parameter("return", "Bundle", "A searchset, newest first", min=1),),
        scope="patient/DocumentReference.s",
        description=DESCRIPTION,
        example=f"GET /{TYPE}/$docref?patient=example",
        handler=handle,
        canonical=CANONICAL,
    )


async def _found(sets: Searchsets, arguments: Arguments, session: Session) -> list[Stored]:
    """The newest first. Raises BadRequest for values that mean nothing here."""
    times = _times(sets, arguments)
    query = (("patient", f"Patient/{arguments.one('patient')}"), ("status", "current"))
    (scan,) = (await sets.parse(TYPE, query)).search.scans
    if times is not None:
        scan = replace(scan, where=both(scan.where, _caring(sets.schema, *times)))
    rows = [(stored, loads(stored.body)) for stored in await every(session, scan)]
    if arguments.one("on-demand", False):
        return []
    rows = [(stored, document) for stored, document in rows if _wanted(document, arguments)]
    return [stored for stored, _ in rows] if times is not None else _newest(rows)


def _times(sets: Searchsets, arguments: Arguments) -> tuple[int, int] | None:
    """``[lo, hi)`` in microseconds; None: not asked for."""
    zone, start, end = sets.context().zone, arguments.one("start"), arguments.one("end")
    lo = PAST if start is None else parse_datetime(start, zone).lo
    hi = FUTURE if end is None else parse_datetime(end, zone).hi
    if lo >= hi:
        raise BadRequest("start lies behind end", code="value")
    return None if start is None and end is None else (lo, hi)


def _caring(schema: SearchSchema, lo: int, hi: int) -> Predicate:
    """About care in ``[lo, hi)``: the time of the care, or where none is told of the document."""
    parameters = schema.of(TYPE).parameters

    def inside(index: str) -> Predicate:
        return All((DateIs(index, "ge", lo, lo), DateIs(index, "lt", hi, hi)))

    (period,), (date,) = parameters["period"].indexes, parameters["date"].indexes
    return Any((inside(period), All((Not(Present(period, "date")), inside(date)))))


def _wanted(document: Json, arguments: Arguments) -> bool:
    """Is it of a type, and of a profile, that is asked for?"""
    types, profiles = arguments.all("type"), set(arguments.all("profile"))
    named = codings(document.get("type"))
    claimed = [url for url in document.get("meta", {}).get("profile", ()) if isinstance(url, str)]
    return (not types or any(_is(text, coding) for text in types for coding in named)) and (
        not profiles or any({url, url.partition("|")[0]} & profiles for url in claimed)
    )


def _is(text: str, coding: tuple[str, str]) -> bool:
    """Does ``system|code`` name a coding? Without system any, without code all of a system."""
    system, bar, code = text.rpartition("|")
    return (not bar or system == coding[0]) and code in ("", coding[1])


def _newest(rows: Sequence[tuple[Stored, Json]]) -> list[Stored]:
    """The first of each type."""
    seen: set[int] = set()
    kept: list[Stored] = []
    kinds = grouped([labels(document.get("type", {})) for _, document in rows])
    for kind, (stored, _) in zip(kinds, rows, strict=True):
        if kind not in seen:
            seen.add(kind)
            kept.append(stored)
    return kept


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
