"""$export: all data of the system, of all patients or of a Group, as files of NDJSON.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html. Always a job: 202 with a status URL. It is for
system clients (SMART backend services), whose scopes say which types; what patients withhold
for the stated purpose of use is left out without a trace. The job is in ``bulk``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fhir_server.access.session import Session
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest, Forbidden
from fhir_server.search.link import query_string

from .bulk.walking import EXPORT
from .bulk.wanted import Exports, Wanted, members_of, named_patients, visible_patients
from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Level, Operation

GUIDE: Final = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"

INPUTS: Final = (
    Parameter("_outputFormat", "string", "application/fhir+ndjson, application/ndjson or ndjson"),
    Parameter("_since", "instant", "Only what was updated later; deletions since are told"),
    Parameter("_type", "string", "Only these resource types, separated by commas", max=None),
    Parameter("_elements", "string", "Only these elements, and mandatory ones", max=None),
    Parameter("_typeFilter", "string", "Searches (Type?…); each type by any of its own", max=None),
    Parameter("includeAssociatedData", "code", "Not supported: refused", max=None),
    Parameter("_anonymize", "string", "De-identify by this profile (code or canonical)"),
    Parameter("_project", "string", "With _anonymize: the project whose key is used"),
)
PATIENT: Final = Parameter("patient", "Reference", "Only these patients, by POST", max=None)
OUTPUTS: Final = (Parameter("return", "Binary", "The manifest, at the status URL"),)

LEVELS: Final[tuple[tuple[str, Level, str, str], ...]] = (
    ("system", "system", "export", "Export everything"),
    ("Patient", "type", "patient-export", "Export the records of all patients"),
    ("Group", "instance", "group-export", "Export the records of a Group's patients"),
)
"""(what it is of, where it is called, name in the guide, description)"""


def export_operations(exports: Exports, queue: Queue) -> tuple[Operation, ...]:
    """The three rows."""
    return tuple(
        Operation(
            code="export",
            levels=frozenset((level,)),
            types=() if of == "system" else (of,),
            affects_state=False,
            inputs=INPUTS if of == "system" else (*INPUTS, PATIENT),
            outputs=OUTPUTS,
            scope="system/*.rs",
            description=f"{text} as NDJSON; answers 202 with a status URL",
            example=f"GET {EXAMPLES[of]}",
            handler=_handler(exports, queue, of),
            searches=True,
            needs=tuple(sorted(exports.types(of))),
            asynchronous=True,
            id=name,
            canonical=GUIDE + name,
        )
        for of, level, name, text in LEVELS
    )


EXAMPLES: Final = {
    "system": "$export?_type=Practitioner,Organization",
    "Patient": "Patient/$export?_since=2024-01-01T00:00:00Z",
    "Group": "Group/example/$export?_type=Patient,Condition",
}


def _handler(exports: Exports, queue: Queue, level: str) -> Handler:
    async def export(arguments: Arguments, session: Session, call: Invocation) -> Response:
        principal = session.principal
        if not principal.system:
            raise Forbidden("$export is for system clients")
        wanted = await exports.understood(level, arguments, session, call.request)
        wanted = await _of_patients(wanted, arguments, session, call)
        wanted = replace(wanted, moment=call.now, url=url_of(call))
        wanted = replace(wanted, as_of=await session.position())
        owner, grant = Owner.of(principal), principal.grant
        job = Asked(EXPORT, owner, call.base, wanted.to_json(), grant, purpose=principal.purpose)
        return accepted(await queue.submit(job))

    return export


async def _of_patients(
    wanted: Wanted, arguments: Arguments, session: Session, call: Invocation
) -> Wanted:
    """With the Group and the patients that are named. NotFound: no such Group. BadRequest:
    a patient who is not in the export, hidden or not."""
    members: frozenset[str] | None = None
    if call.id:
        group = await session.exporting().group(call.id)
        wanted = replace(wanted, group=call.id, version=group.version)
        members = frozenset(members_of(group))
    named = named_patients(arguments.all("patient"))
    if named is None:
        return wanted
    session.allow("s", "Patient")
    seen = await visible_patients(session, named)
    for id_ in named:
        if id_ not in seen or (members is not None and id_ not in members):
            raise BadRequest(f"patient: Patient/{id_} is not part of this export", code="value")
    return replace(wanted, patients=named)


def url_of(call: Invocation) -> str:
    """Of the kick-off; of a POST without its parameters."""
    request: Request = call.request
    url = f"{call.base}/{'/'.join(request.path)}"
    query = query_string(request.query) if request.method == "GET" else ""
    return f"{url}?{query}" if query else url
