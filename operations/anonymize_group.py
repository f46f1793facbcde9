"""$anonymize of a Group: the records of its patients, as a job.

It is an export of the Group by a profile: 202 with a status URL, then a manifest of NDJSON files
whose last is the report. Like an export it is for system clients, and is judged again when it is
fetched.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.session import Session
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest, Forbidden

from .bulk.walking import EXPORT
from .bulk.wanted import Exports, Wanted
from .deid.assembly import DEFAULT_PROFILE
from .export import OUTPUTS, url_of
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

INPUTS: Final = (
    Parameter("profile", "canonical", "Code or canonical URL of the profile."),
    Parameter("project", "string", "The project whose key makes the pseudonyms."),
    Parameter("mode", "code", "apply; review is for one patient or resource."),
)


def anonymize_group(exports: Exports, queue: Queue) -> Operation:
    """The row."""

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Response:
        principal = session.principal
        if not principal.system:
            raise Forbidden("$anonymize of a Group is for system clients")
        if arguments.one("mode", "apply") != "apply":
            raise BadRequest("mode: of a Group only apply", code="not-supported")
        profile, project = arguments.one("profile", DEFAULT_PROFILE), arguments.one("project", "")
        assert exports.deid is not None
        exports.deid.begin(profile, project, call.now, call.base)
        group = await session.exporting().group(call.id)
        allows = session.policy.allows
        types = [t for t in sorted(exports.types("Group")) if allows("r", t) and allows("s", t)]
        wanted = Wanted(
            "Group",
            tuple(types),
            group=call.id,
            version=group.version,
            as_of=await session.position(),
            moment=call.now,
            method=call.method,
            url=url_of(call),
            anonymize=profile,
            project=project,
        )
        owner, grant = Owner.of(principal), principal.grant
        job = Asked(EXPORT, owner, call.base, wanted.to_json(), grant, purpose=principal.purpose)
        return accepted(await queue.submit(job))

    return Operation(
        code="anonymize",
        levels=frozenset(("instance",)),
        types=("Group",),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="system/*.rs",
        description="De-identifies the records of a Group's patients, as a job; answers 202",
        example="GET Group/example/$anonymize",
        handler=handler,
        needs=tuple(sorted(exports.types("Group"))),
        asynchronous=True,
        id="group-anonymize",
    )
