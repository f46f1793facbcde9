"""``Prefer: respond-async``: any FHIR request as a job of the kind "request".

https://hl7.org/fhir/R4/async.html and, for the form of the answer (a Bundle of type
batch-response with one entry), https://hl7.org/fhir/R5/async-bundle.html. A failed request
is a finished job: its status and OperationOutcome stand in the entry.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import Limits, dumps, loads
from fhir_server.jobs.context import Body, JobContext
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import REQUEST, RESPONSE, Asked, Job, JobFile, Owner
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import Gone, Problem, ServerError

KIND: Final = "request"
RESPOND_ASYNC: Final = "respond-async"

KEPT: Final = frozenset(
    {
        "accept",
        "accept-language",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-exist",
        "if-none-match",
        "prefer",
        "x-break-glass-reason",
        "x-purpose-of-use",
    }
)
"""Request headers that a replay needs. Credentials are never kept: the grant is."""

REPLAYED: Final = frozenset({"GET", "HEAD"})
UNKNOWN: Final = (
    "the server stopped while it ran this request; look whether it took effect before asking again"
)

Handler = Callable[[Request, Session], Awaitable[Response]]
HandlerOf = Callable[[str], Handler]
"""Interaction name -> its handler; Problem if there is none."""


def prefers_async(request: Request) -> bool:
    """RFC 7240: a token of the Prefer header, whatever its case."""
    header = request.header("prefer")
    return header is not None and RESPOND_ASYNC in [p.lower() for p in _preferences(header)]


def _preferences(header: str) -> list[str]:
    return [part.strip() for part in header.replace(";", ",").split(",") if part.strip()]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A request and the interaction that the routes found for it. ``url``: for people."""

    interaction: str
    request: Request
    url: str

    @property
    def again(self) -> bool:
        """May it be run twice, if the first run's fate is not known?"""
        searches = self.request.method == "POST" and self.interaction.startswith("search")
        return searches or self.request.method in REPLAYED


def asked(replayed: Replayed, session: Session, grant: str) -> Asked:
    """The job that runs this request."""
    request = replayed.request
    headers = {name: value for name, value in request.headers.items() if name in KEPT}
    if "prefer" in headers:
        rest = [p for p in _preferences(headers["prefer"]) if p.lower() != RESPOND_ASYNC]
        headers["prefer"] = ", ".join(rest)
    stored: Json = {
        "interaction": replayed.interaction,
        "method": request.method,
        "url": replayed.url,
        "path": list(request.path),
        "query": [list(pair) for pair in request.query],
        "headers": headers,
        "request_id": request.request_id,
        "again": replayed.again,
        "stamp": session.stamp,
    }
    body = dumps(request.body) if request.body is not None else None
    principal = session.principal
    owner = Owner.of(principal)
    return Asked(KIND, owner, request.base, stored, grant, body, principal.purpose)


def replay(handler_of: HandlerOf, limits: Limits) -> Body:
    """The body of the kind "request". ``limits``: those of request bodies."""

    async def run(job: JobContext) -> None:
        if not job.request["again"]:
            if job.state is not None:
                raise ServerError(UNKNOWN, code="incomplete")
            await job.checkpoint({"begun": True})
        request = await _restored(job, limits)
        try:
            response = await handler_of(job.request["interaction"])(request, job.session)
            if response.body != b"":
                await job.write(RESPONSE, response.body, response.content_type)
        except Problem as problem:
            response = Response(problem.status, dumps(problem.outcome()), dict(problem.headers))
            await job.write(RESPONSE, dumps(problem.outcome()), response.content_type)
        job.answer({"status": response.status, "headers": dict(response.headers)})

    return run


async def _restored(job: JobContext, limits: Limits) -> Request:
    stored = job.request
    body = loads(await job.read(REQUEST), limits) if job.job.file(REQUEST) else None
    return Request(
        stored["method"],
        tuple(stored["path"]),
        tuple((name, value) for name, value in stored["query"]),
        stored["headers"],
        body,
        job.job.base,
        stored["request_id"],
    )


def require_unchanged(job: Job, session: Session) -> None:
    """Gone if patients decide otherwise about the job's owner than when it was asked for: what it
    found then is not shown now."""
    if job.request.get("stamp", "") != session.stamp:
        raise Gone("what its owner may see has changed since this was asked for: ask again")


async def batch_response(job: Job, files: JobFiles) -> AsyncIterator[bytes]:
    """The recorded response as a Bundle; its bytes are spliced, never rebuilt.

    What is not FHIR JSON (a raw Binary) is wrapped in a Binary resource.
    """
    result = job.result or {}
    response = dumps(_response(result))
    file = job.file(RESPONSE)
    yield b'{"resourceType":"Bundle","type":"batch-response","entry":[{'
    if file is None:
        yield b'"response":' + response
    elif result["status"] >= 400:
        yield b'"response":' + response[:-1] + b',"outcome":'
        async for chunk in files.read(job.id, file):
            yield chunk
        yield b"}"
    else:
        yield b'"resource":'
        async for chunk in _resource(job.id, file, files):
            yield chunk
        yield b',"response":' + response
    yield b"}]}"


async def _resource(id_: str, file: JobFile, files: JobFiles) -> AsyncIterator[bytes]:
    media = file.content_type.partition(";")[0].strip()
    if media == "application/fhir+json":
        async for chunk in files.read(id_, file):
            yield chunk
        return
    yield b'{"resourceType":"Binary","contentType":' + _quoted(file.content_type) + b',"data":"'
    async for chunk in files.read(id_, file):
        yield base64.b64encode(chunk)
    yield b'"}'


def _quoted(text: str) -> bytes:
    return dumps([text])[1:-1]


def _response(result: Json) -> Json:
    """Bundle.entry.response of a recorded response."""
    headers = {name.lower(): value for name, value in result["headers"].items()}
    status = HTTPStatus(result["status"])
    response: Json = {"status": f"{status.value} {status.phrase}"}
    for header, element in (("location", "location"), ("etag", "etag")):
        if header in headers:
            response[element] = headers[header]
    if "last-modified" in headers:
        moment = parsedate_to_datetime(headers["last-modified"])
        response["lastModified"] = format_instant(int(moment.timestamp()) * 1_000_000)
    return response
