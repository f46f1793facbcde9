"""$import: NDJSON into the record, as a job.

https://github.com/smart-on-fhir/bulk-import/blob/master/import-manifest.md has the manifest whose
names the parameters bear. It is for system clients who may update the types; each input is a Binary
that was uploaded before, or a file of the folder of ``VEHR_IMPORT``, gzipped or not. No URL of
elsewhere is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fhir_server.access.session import Session
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.jobs.request import prefers_async
from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest, Forbidden

from .bulk.taking import IMPORT, located
from .bulk.wanted import FORMATS
from .export import url_of
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

MOST: Final = 1000
"""Inputs of one import."""

INPUTS: Final = (
    Parameter("inputFormat", "string", "application/fhir+ndjson", min=1),
    Parameter("inputSource", "uri", "Where it comes from, for people"),
    Parameter(
        "input",
        "",
        "The files, in their order",
        min=1,
        max=None,
        parts=(
            Parameter("type", "code", "The resource type of all lines", min=1),
            Parameter("url", "uri", "Binary/[id], or file:NAME", min=1),
        ),
    ),
)


def import_operation(queue: Queue, types: frozenset[str], folder: Path | None) -> Operation:
    """The row. ``folder``: where files may lie."""

    async def take(arguments: Arguments, session: Session, call: Invocation) -> Response:
        principal = session.principal
        if not principal.system:
            raise Forbidden("$import is for system clients")
        if not prefers_async(call.request):
            raise BadRequest("$import needs the header Prefer: respond-async", code="required")
        if arguments.one("inputFormat") not in FORMATS:
            raise BadRequest("inputFormat: only application/fhir+ndjson", code="not-supported")
        given = [(one.one("type"), one.one("url")) for one in arguments.all("input")]
        if len(given) > MOST:
            raise BadRequest(f"more than {MOST} inputs", code="too-costly")
        for type_, url in given:
            if type_ not in types:
                raise BadRequest(f"input.type: {type_[:64]!r} is no resource type", code="value")
            for letter in "cu":
                session.allow(letter, type_)
            await located(url, folder, session)
        inputs = [list(one) for one in given]
        job = Asked(
            IMPORT,
            Owner.of(principal),
            call.base,
            {"inputs": inputs, "url": url_of(call)},
            principal.grant,
            purpose=principal.purpose,
        )
        return accepted(await queue.submit(job))

    return Operation(
        code="import",
        levels=frozenset(("system",)),
        types=(),
        affects_state=True,
        inputs=INPUTS,
        outputs=(Parameter("return", "Binary", "The manifest, at the status URL"),),
        scope="system/*.cru",
        description="Resources of NDJSON files into the record; answers 202 with a status URL",
        example="POST $import",
        handler=take,
        needs=tuple(sorted(types)),
        asynchronous=True,
    )
