"""$run: rows of what the caller may see, by a ViewDefinition (SQL on FHIR).

https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/operations-run.html. ``ViewDefinition/$run`` and
``ViewDefinition/[id]/$run``, which is the view in ``Library/[id]``; for R4 the guide has
``$viewdefinition-run`` of the system, which is the same. Rows are streamed; a fault that is met
after the first megabyte breaks the answer off, and what may not be seen any more is left out of
what follows.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from fhir_server.access.lasting import FRESH
from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest
from operations.bulk.wanted import named_patients

from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Level, Operation
from .views.definition import TYPE, View
from .views.rows import Row
from .views.source import Source, of_given
from .views.tables import Format, accepted_format, named_format

GUIDE: Final = "http://sql-on-fhir.org/OperationDefinition/"
WHOLE: Final = 1 << 20
"""Bytes up to which an answer is made whole before it is sent."""

FORMAT: Final = Parameter("_format", "code", "ndjson (default), json, csv or parquet")
VIEW: Final = (
    Parameter("viewReference", "Link", "The view: ViewDefinition/[id] or its canonical URL"),
    Parameter("viewResource", TYPE, "The view itself"),
)
NARROWING: Final = (
    Parameter("patient", "Literal", "Only what is in the record of these patients", max=None),
    Parameter("group", "Literal", "Only what is in the records of members of these", max=None),
    Parameter("_since", "instant", "Only what was updated later"),
    Parameter("source", "string", "Not supported: refused"),
)
INPUTS: Final = (
    FORMAT,
    Parameter("header", "boolean", "Names of the columns first, in CSV (default true)"),
    *VIEW,
    *NARROWING,
    Parameter("resource", "Resource", "Instead of what is stored", max=None),
    Parameter("_limit", "positiveInt", "At most so many rows"),
)
OUTPUTS: Final = (Parameter("return", "Binary", "The rows", min=1),)


def view_run_operations(source: Source) -> tuple[Operation, ...]:
    """Of the type that R4 does not know, and of the system."""
    run = _handler(source)
    types = tuple(sorted(source.exports.schema.types))

    def row(code: str, levels: frozenset[Level], example: str) -> Operation:
        return Operation(
            code=code,
            levels=levels,
            types=() if "system" in levels else (TYPE,),
            affects_state=False,
            inputs=INPUTS,
            outputs=OUTPUTS,
            scope="user/*.rs",
            description="Rows of what the caller may see, by a ViewDefinition (SQL on FHIR)",
            example=example,
            handler=run,
            body="viewResource",
            needs=types,
            foreign=(TYPE,),
            canonical=GUIDE + "$" + code,
        )

    return (
        row("run", frozenset(("type", "instance")), "POST ViewDefinition/$run"),
        row("viewdefinition-run", frozenset(("system",)), "POST $viewdefinition-run"),
    )


def _handler(source: Source) -> Handler:
    async def run(arguments: Arguments, session: Session, call: Invocation) -> Response:
        format_ = format_of(arguments, call.request)
        view = await view_of(source, arguments, session, call.id)
        rows = await _rows(source, view, arguments, session)
        limit = arguments.one("_limit")
        rows = rows if limit is None else first(rows, limit)
        content = table(format_, view, rows, header=arguments.one("header", True), live=True)
        return await answer(content, format_, raw=call.request.raw)

    return run


async def _rows(
    source: Source, view: View, arguments: Arguments, session: Session
) -> AsyncIterator[list[Row]]:
    refuse_source(arguments)
    given = arguments.all("resource")
    if given:
        if any(arguments.all(name) for name in ("patient", "group", "_since")):
            raise BadRequest("resource: what is given is not narrowed by patient, group or _since")
        return of_given(view, given)
    wanted = await source.wanted(*narrowing(arguments), session)
    return source.rows(view, wanted, session, again=session.renewed)


def format_of(arguments: Arguments, request: Request) -> Format:
    """As the parameter says, in the body or in the URL, else the Accept header."""
    named = arguments.one("_format") or dict(request.query).get("_format")
    if named:
        return named_format(named)
    return accepted_format(request.header("accept"))


async def view_of(source: Source, arguments: Arguments, session: Session, id_: str = "") -> View:
    """The one view that is named, or given."""
    reference, given = arguments.one("viewReference"), arguments.one("viewResource")
    if sum(map(bool, (id_, reference, given))) != 1:
        raise BadRequest("one view is needed: of the URL, viewReference or viewResource")
    if given:
        return source.read(given)
    return await source.stored(f"{TYPE}/{id_}" if id_ else reference, session)


def refuse_source(arguments: Arguments) -> None:
    if arguments.one("source"):
        raise BadRequest("the parameter 'source' is not supported", code="not-supported")


def narrowing(arguments: Arguments) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """(ids of patients, ids of groups, ``_since``)."""
    references = [{"reference": text} for text in arguments.all("patient")]
    groups: list[str] = []
    for text in arguments.all("group"):
        type_, _, id_ = text.partition("/")
        if type_ != "Group":
            raise BadRequest("group: Group/[id] is needed", code="value")
        groups.append(id_)
    return named_patients(references) or (), tuple(groups), arguments.one("_since", "")


async def first(rows: AsyncIterator[list[Row]], limit: int) -> AsyncIterator[list[Row]]:
    left = limit
    async for some in rows:
        yield some[:left]
        left -= len(some)
        if left <= 0:
            return


async def table(
    format_: Format, view: View, rows: AsyncIterator[list[Row]], *, header: bool, live: bool = False
) -> AsyncIterator[bytes]:
    """The rows as bytes, in pieces of some thousand rows. ``live``: to somebody who is waiting for
    them: pieces are small, and what was permitted a moment ago does not wait for more."""
    written = format_.table(view.columns, header)
    yield written.head()
    held: list[Row] = []
    since, most = time.monotonic(), min(FIRST, GROUP) if live else GROUP
    async for some in rows:
        held += some
        if len(held) >= most or (live and time.monotonic() - since > FRESH):
            piece = written.rows(held)
            if live:
                most = max(1, min(GROUP, len(held) * PIECE // (len(piece) or 1)))
            yield piece
            held, since = [], time.monotonic()
    yield written.rows(held)
    yield written.tail()


GROUP: Final = 5_000
"""Rows of one piece (in Parquet a row group)."""
FIRST: Final = 100
"""Rows of the first piece of an answer that is streamed; how long they are is not known yet."""
PIECE: Final = 1 << 18
"""Bytes of its later ones, about: what has been made cannot be called back."""


async def answer(content: AsyncIterator[bytes], format_: Format, *, raw: bool) -> Response:
    """Whole if it is small, so that every fault has its status; else a stream. Within a Bundle
    it is a Binary."""
    held: list[bytes] = []
    size = 0
    async for piece in content:
        held.append(piece)
        size += len(piece)
        if raw and size > WHOLE:
            return Response(200, _continued(held, content), content_type=format_.media)
    body = b"".join(held)
    return Response(200, body, content_type=format_.media) if raw else _binary(body, format_)


def _binary(body: bytes, format_: Format) -> Response:
    data = base64.b64encode(body).decode()
    binary: Json = {"resourceType": "Binary", "contentType": format_.media, "data": data}
    return Response(200, dumps(binary))


async def _continued(held: Sequence[bytes], content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(held)
    async for piece in content:
        yield piece
