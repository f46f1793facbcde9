"""$export of ViewDefinitions: each view a table, as a job (SQL on FHIR).

https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/operations-export.html. The tables are as of the
kick-off. As with ``$export`` of resources, who sees the domain whole gets the files as they were
written; for all others they are made anew when they are fetched, by what is permitted then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.jobs.context import Body, JobContext
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import Asked, Job, JobFile, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.jobs.request import prefers_async
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest
from operations.bulk.delivery import Judge
from operations.bulk.wanted import Wanted

from .export import url_of
from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Level, Operation
from .view_run import FORMAT, GUIDE, NARROWING, VIEW, narrowing, refuse_source, table, view_of
from .views.definition import NAME, TYPE
from .views.rows import Row
from .views.source import Again, Source
from .views.tables import Format, named_format

VIEW_EXPORT: Final = "view-export"
MOST: Final = 100
"""Views of one export."""

INPUTS: Final = (
    Parameter(
        "view",
        "",
        "The views",
        min=1,
        max=None,
        parts=(Parameter("name", "string", "Of the output; default: of the view"), *VIEW),
    ),
    Parameter("clientTrackingId", "string", "Repeated in the manifest"),
    FORMAT,
    Parameter("header", "boolean", "Names of the columns first, in CSV (default true)"),
    *NARROWING,
)
OUTPUTS: Final = (Parameter("return", "Parameters", "The manifest, at the status URL"),)


def view_export_operations(source: Source, queue: Queue) -> tuple[Operation, ...]:
    """Of the type that R4 does not know, and of the system."""
    export = _handler(source, queue)
    types = tuple(sorted(source.exports.schema.types))

    def row(code: str, level: Level, example: str) -> Operation:
        return Operation(
            code=code,
            levels=frozenset((level,)),
            types=() if level == "system" else (TYPE,),
            affects_state=True,
            inputs=INPUTS,
            outputs=OUTPUTS,
            scope="user/*.rs",
            description="Tables by ViewDefinitions as files; answers 202 with a status URL",
            example=example,
            handler=export,
            needs=types,
            asynchronous=True,
            foreign=(TYPE,),
            id="" if level == "system" else "view-export",
            canonical=GUIDE + "$" + code,
        )

    return (
        row("export", "type", "POST ViewDefinition/$export"),
        row("viewdefinition-export", "system", "POST $viewdefinition-export"),
    )


def _handler(source: Source, queue: Queue) -> Handler:
    async def export(arguments: Arguments, session: Session, call: Invocation) -> Response:
        if not prefers_async(call.request):
            raise BadRequest("$export needs the header Prefer: respond-async", code="required")
        refuse_source(arguments)
        wanted = await source.wanted(*narrowing(arguments), session)
        asked: Json = {
            "views": await _views(source, arguments, session),
            "format": named_format(arguments.one("_format") or "ndjson").name,
            "header": arguments.one("header", True),
            "tracking": arguments.one("clientTrackingId", ""),
            "wanted": wanted.to_json(),
            "started": call.now,
            "url": url_of(call),
        }
        principal = session.principal
        job = Asked(
            VIEW_EXPORT,
            Owner.of(principal),
            call.base,
            asked,
            principal.grant,
            purpose=principal.purpose,
        )
        return accepted(await queue.submit(job))

    return export


async def _views(source: Source, arguments: Arguments, session: Session) -> list[list[Any]]:
    """[name, definition] of each, all understood before anything starts."""
    given: list[Arguments] = arguments.all("view")
    if len(given) > MOST:
        raise BadRequest(f"more than {MOST} views", code="too-costly")
    found: dict[str, Any] = {}
    for number, one in enumerate(given, 1):
        view = await view_of(source, one, session)
        session.allow("s", view.resource)
        name = one.one("name") or view.name or f"view{number}"
        if NAME.fullmatch(name) is None or name in found:
            text = f"view: {name[:64]!r} is no name of its own (letters, digits and _)"
            raise BadRequest(text, code="value")
        found[name] = view.definition
    return [[name, definition] for name, definition in found.items()]


def view_export_body(source: Source) -> Body:
    """The job: a file per view, and a step."""

    async def run(job: JobContext) -> None:
        format_ = named_format(job.request["format"])
        done: list[str] = list((job.state or {}).get("done", []))
        kinds = {source.read(definition).resource for _, definition in job.request["views"]}
        job.asked = f"_type={','.join(sorted(kinds))}".encode()
        for name, definition in job.request["views"][len(done) :]:
            await job.progress(len(done), None, f"tables, now {name}")
            content = _content(source, job.request, definition, format_, job.recorded)
            await job.write(f"{name}.{format_.name}", content, format_.media)
            job.tell()
            done.append(name)
            await job.checkpoint({"done": done})
        job.answer({"ended": job.now()})

    return run


def _content(
    source: Source,
    request: Json,
    definition: Json,
    format_: Format,
    session: Session,
    *,
    again: Again | None = None,
) -> AsyncIterator[bytes]:
    view, wanted = source.read(definition), Wanted.of(request["wanted"])
    rows: AsyncIterator[list[Row]] = source.rows(view, wanted, session, again=again)
    return table(format_, view, rows, header=request["header"], live=again is not None)


@dataclass(frozen=True, slots=True)
class ViewDelivery:
    """What the owner of an export is shown. ``judge``: (grant, purpose) -> the Session, anew."""

    source: Source
    files: JobFiles
    judge: Judge

    async def manifest(self, job: Job, session: Session) -> Json:
        asked, ended = job.request, (job.result or {})["ended"]
        seconds = (ended - asked["started"]) // 1_000_000
        parameters: list[Json] = [
            {"name": "exportId", "valueString": job.id},
            *_said("clientTrackingId", "valueString", asked["tracking"]),
            {"name": "status", "valueCode": "completed"},
            {"name": "location", "valueUri": job.url},
            {"name": "_format", "valueCode": asked["format"]},
            {"name": "exportStartTime", "valueInstant": format_instant(asked["started"])},
            {"name": "exportEndTime", "valueInstant": format_instant(ended)},
            {"name": "exportDuration", "valueInteger": seconds},
        ]
        for name, _ in asked["views"]:
            location = f"{job.url}/{name}.{asked['format']}"
            parts = [
                {"name": "name", "valueString": name},
                {"name": "location", "valueUri": location},
            ]
            parameters.append({"name": "output", "part": parts})
        return {"resourceType": "Parameters", "parameter": parameters}

    async def content(self, job: Job, file: JobFile, session: Session) -> AsyncIterator[bytes]:
        async def again() -> Session:
            return await self.judge(session.principal.grant, job.purpose)

        judged = await again()
        if judged.policy.whole:
            return self.files.read(job.id, file)
        definitions = dict(job.request["views"])
        definition = definitions[file.name.partition(".")[0]]
        format_ = named_format(job.request["format"])
        return _content(self.source, job.request, definition, format_, judged, again=again)


def _said(name: str, member: str, value: str) -> list[Json]:
    return [{"name": name, member: value}] if value else []
