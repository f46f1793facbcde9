"""Binary as it is and as a resource: https://hl7.org/fhir/R4/binary.html

A body that is no FHIR format is the content; an answer is the content unless a FHIR format
is asked for by name. Content is never run by a browser that meets it: it is an attachment,
of its own origin, and its type is not guessed at.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from fhir_server.access.contents import Content
from fhir_server.access.drafts import Draft, Written
from fhir_server.access.lasting import lasting, readable
from fhir_server.access.ports import Guard
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.interactions.answer import (
    location,
    of,
    preference,
    refuse_parameters,
    version_headers,
    written,
)
from fhir_server.interactions.conditional import one_or_none, settle
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.preconditions import expected, not_modified
from fhir_server.interactions.ranges import asked, part
from fhir_server.interactions.target import pairs
from fhir_server.interactions.update import update
from fhir_server.interactions.vread import number
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import Scan

JOINED: Final = 1 << 20
"""Bytes of content up to which the resource is one piece; beyond it is streamed."""

UNKNOWN: Final = "application/octet-stream"
_TOKEN: Final = r"[A-Za-z0-9!#$&^_.+*'`|~%-]+"
_MEDIA: Final = re.compile(rf'{_TOKEN}/{_TOKEN}(?: ?; ?{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*')
"""A media type that can stand in a header (RFC 9110 8.3.1)."""

SAFETY: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def create_binary(create: Handler, criteria: Criteria) -> Handler:
    """The handler of create for Binary; ``create`` takes it as a resource, ``criteria`` reads
    the search of If-None-Exist.
    """

    async def create_(request: Request, session: Session) -> Response:
        if request.content is None:
            return await create(request, session)
        refuse_parameters(request)
        draft = Draft("POST", Key("Binary", session.new_id()), described(request, session))
        condition = request.headers.get("if-none-exist")
        if condition is None:
            draft = replace(draft, blob=await session.upload("c", request.content))
            [result] = await session.write([draft])
            return await stored_answer(request, session, result)
        scan = await criteria("Binary", pairs(condition.removeprefix("?")))
        known = await found(session, scan, condition)
        if isinstance(known, Written):
            return await stored_answer(request, session, known)
        draft = replace(draft, blob=await session.upload("c", request.content))

        async def attempt() -> Response:
            known = await found(session, scan, condition)
            if isinstance(known, Guard):
                [known] = await session.write([replace(draft, guards=(known,))])
            return await stored_answer(request, session, known)

        return await settle(attempt)

    return create_


async def found(session: Session, scan: Scan, condition: str) -> Written | Guard:
    """The Binary that a condition finds, or what holds the write to there being none."""
    guard = await session.find(scan)
    existing = one_or_none(guard, condition)
    return guard if existing is None else Written(await session.read(Key("Binary", existing)))


async def update_binary(request: Request, session: Session) -> Response:
    """PUT, as a resource or as content; content without X-Security-Context has none."""
    if request.content is None:
        return await update(request, session)
    refuse_parameters(request)
    key = Key(*request.path)
    version = await expected(request, session, key)
    resource = {**described(request, session), "id": key.id}
    blob = await session.upload("u", request.content)
    [result] = await session.write([Draft("PUT", key, resource, version, blob=blob)])
    return await stored_answer(request, session, result)


async def read_binary(request: Request, session: Session) -> Response:
    """The current content, or the current version as a resource."""
    refuse_parameters(request)
    return await shown(request, session, await session.read(Key(*request.path)))


async def vread_binary(request: Request, session: Session) -> Response:
    """The same for one version."""
    refuse_parameters(request)
    type_, id_, version = request.path
    return await shown(request, session, await session.vread(Key(type_, id_), number(version)))


def described(request: Request, session: Session) -> Json:
    """The Binary that the headers of raw content describe, if it is a valid one."""
    media = " ".join(request.headers.get("content-type", "").split())
    if _MEDIA.fullmatch(media) is None:
        raise BadRequest("the Content-Type is not a media type")
    resource: Json = {"resourceType": "Binary", "contentType": media}
    context = request.headers.get("x-security-context")
    if context is not None:
        resource["securityContext"] = {"reference": context.strip()}
    session.validate(resource)
    return resource


async def shown(request: Request, session: Session, stored: Stored) -> Response:
    """304, the content as it is, or the resource with its data."""
    if not_modified(request, stored):
        return Response(304, b"", version_headers(stored))
    content = await session.content(stored)
    if request.raw:
        response = await as_content(request, stored, content)
    else:
        response = of(stored) if content is None else await as_resource(stored, content)
    if not isinstance(response.body, bytes):
        response.body = lasting(response.body, readable(session, stored.key, stored.version))
    return response


async def as_content(request: Request, stored: Stored, content: Content | None) -> Response:
    """The bytes with their own type, or the range of them that is asked for."""
    resource = resource_of(stored)
    whole = binascii.a2b_base64(resource.get("data", "")) if content is None else b""
    size = len(whole) if content is None else content.size
    wanted = asked(request, size)
    headers = {
        **version_headers(stored),
        **SAFETY,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{stored.key.id}"',
        "Content-Length": str(size if wanted is None else wanted.stop - wanted.start),
    }
    context = resource.get("securityContext", {}).get("reference")
    if context is not None:
        headers["X-Security-Context"] = context
    media = resource.get("contentType", "")
    body = one(whole) if content is None else await content.read()
    media = media if _MEDIA.fullmatch(media) else UNKNOWN
    if wanted is None:
        return Response(200, body, headers, media)
    headers["Content-Range"] = wanted.header
    return Response(206, part(body, wanted), headers, media)


async def as_resource(stored: Stored, content: Content) -> Response:
    """The stored bytes with the data spliced in as base64."""
    if not content.size:
        return of(stored)
    head = stored.body[:-1] + b',"data":"'
    parts = spliced(head, await content.read())
    headers = version_headers(stored)
    if content.size <= JOINED:
        return Response(200, b"".join([part async for part in parts]), headers)
    headers["Content-Length"] = str(len(head) + (content.size + 2) // 3 * 4 + 2)
    return Response(200, parts, headers)


async def spliced(head: bytes, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    rest = b""
    async for block in content:
        block = rest + block
        cut = len(block) - len(block) % 3
        yield binascii.b2a_base64(block[:cut], newline=False)
        rest = block[cut:]
    yield binascii.b2a_base64(rest, newline=False) + b'"}'


async def one(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


async def stored_answer(request: Request, session: Session, result: Written) -> Response:
    """201 or 200 after raw content; large content comes back only if it is asked for."""
    assert result.stored is not None
    content = await session.content(result.stored)
    wanted = preference(request, "return")
    if content is None or wanted in ("minimal", "OperationOutcome"):
        return written(request, result)
    if wanted is None and content.size > JOINED:
        return Response(201 if result.created else 200, b"", placed(request, result.stored))
    response = await as_resource(result.stored, content)
    response.status = 201 if result.created else 200
    response.headers |= placed(request, result.stored)
    return response


def placed(request: Request, stored: Stored) -> dict[str, str]:
    return {**version_headers(stored), "Location": location(request.base, stored)}
