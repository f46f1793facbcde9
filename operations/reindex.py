"""$reindex: the search index of this server, made anew from the resources.

On the system, a type or one resource. It is always a job: 202 with a status URL
(https://hl7.org/fhir/R4/async.html). A posted SearchParameter can be searched by once a
reindex that began after it has covered the whole of its type.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from fhir_server.access.reindexing import Reindexing, State
from fhir_server.access.session import Session
from fhir_server.jobs.context import Body, JobContext
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest, Forbidden
from fhir_server.model.resource import Key
from operations.parameters import Arguments, Parameter
from operations.registry import Invocation, Operation

KIND: Final = "reindex"
CHECKPOINT: Final = 1.0
"""Seconds of work that a killed job does again at most."""


def reindex_operation(queue: Queue, types: Iterable[str]) -> Operation:
    """The row, for these resource types."""
    every = tuple(sorted(types))

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Response:
        if not session.policy.whole:
            raise Forbidden("$reindex is for system clients")
        session.allow("u", "SearchParameter")
        wanted: list[str] = [call.type] if call.type else arguments.all("type")
        if call.type and arguments.all("type"):
            raise BadRequest("the parameter type goes with the system level only")
        for type_ in wanted:
            if type_ not in every:
                raise BadRequest(f"{type_[:64]!r} is not a resource type", code="value")
        if call.id:
            await session.read(Key(call.type, call.id))
        request: Json = {"types": wanted, "id": call.id}
        owner, grant = Owner.of(session.principal), session.principal.grant
        return accepted(await queue.submit(Asked(KIND, owner, call.base, request, grant)))

    return Operation(
        code="reindex",
        levels=frozenset(("system", "type", "instance")),
        types=every,
        affects_state=True,
        inputs=(Parameter("type", "code", "Resource types; none are all", max=None),),
        outputs=(Parameter("return", "Parameters", "Counts, at the status URL"),),
        scope="system/SearchParameter.u",
        description="Make the search index anew; answers 202 with a status URL",
        example="POST Patient/$reindex",
        handler=handler,
        asynchronous=True,
    )


def reindex_body(reindexing: Reindexing) -> Body:
    """The job."""

    async def run(job: JobContext) -> None:
        if job.request["id"]:
            (type_,) = job.request["types"]
            renewed = await reindexing.one(Key(type_, job.request["id"]))
            job.answer(answer({type_: 1}, renewed))
            return
        if job.state is None:
            state = await reindexing.begin(job.request["types"])
        else:
            state = State.of(job.state)
            await reindexing.refresh()
        kept = 0.0
        while not state.finished:
            state = await reindexing.step(state)
            await job.progress(state.done, state.total, state.text)
            if time.monotonic() - kept > CHECKPOINT:
                kept = time.monotonic()
                await job.checkpoint(state.to_json())
        await job.progress(max(state.done, 1), max(state.done, 1), state.text)
        job.answer(answer(state.counts, state.renewed))

    return run


def answer(counts: Mapping[str, int], renewed: int) -> Json:
    """The result: how many resources of each type were looked at, and how many renewed."""
    parts = [
        {
            "name": "indexed",
            "part": [{"name": "type", "valueCode": t}, {"name": "count", "valueInteger": n}],
        }
        for t, n in sorted(counts.items())
    ]
    return {
        "resourceType": "Parameters",
        "parameter": [*parts, {"name": "renewed", "valueInteger": renewed}],
    }
