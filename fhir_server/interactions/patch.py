"""patch: https://hl7.org/fhir/R4/http.html#patch

A patch works on the version that it read. If another one has come meanwhile it is done
again on that, unless the client said by If-Match which version it means.
"""

from __future__ import annotations

from dataclasses import replace

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.answer import refuse_parameters, written
from fhir_server.interactions.conditional import one_or_none, readable, settle
from fhir_server.interactions.patches import asks, patched
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.preconditions import candidates
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest, Forbidden, NotFound, PreconditionFailed
from fhir_server.model.resource import Key


def patch(definitions: Definitions) -> Handler:
    """The handler of patch."""

    async def patch_(request: Request, session: Session) -> Response:
        refuse_parameters(request)
        key = Key(*request.path)
        tags, document = candidates(request), document_of(request)

        async def attempt() -> Response:
            draft = await drafted(session, key, document, definitions, tags)
            [result] = await session.write([draft])
            return written(request, result)

        return await settle(attempt)

    return patch_


def conditional_patch(criteria: Criteria, definitions: Definitions) -> Handler:
    """The handler of conditional-patch: NotFound if the search of the URL finds nothing."""

    async def patch_(request: Request, session: Session) -> Response:
        (type_,) = request.path
        session.allow("u", type_)
        tags, document = candidates(request), document_of(request)
        scan = await criteria(type_, request.query)

        async def attempt() -> Response:
            guard = await session.find(scan)
            found = one_or_none(guard, readable(request.query))
            if found is None:
                raise NotFound("the condition matches no resource")
            key = Key(type_, found)
            draft = await drafted(session, key, document, definitions, tags)
            [result] = await session.write([replace(draft, guards=(guard,))])
            return written(request, result)

        return await settle(attempt)

    return patch_


def document_of(request: Request) -> Json:
    """The patch, as the resource that carries it."""
    if request.body is None:
        raise BadRequest("a patch is needed as the body")
    return request.body


async def drafted(
    session: Session,
    key: Key,
    document: Json,
    definitions: Definitions,
    tags: list[str] | None,
) -> Draft:
    """The current version patched. ``tags``: versions it must be one of (If-Match).

    NotFound whether it was never there or is hidden, Gone if it was deleted. The letter u of SMART
    is enough; who may not read beside it sends a patch that asks nothing of what is there.
    """
    session.allow("u", key.type)
    reads = session.policy.allows("r", key.type)
    if not reads and asks(document):
        raise Forbidden(f"not permitted: read {key.type}; this patch asks what it says")
    stored = await session.read(key, "r" if reads else "u")
    if tags is not None and str(stored.version) not in tags:
        raise PreconditionFailed(f"{key}: the version is none of those in If-Match")
    resource = patched(resource_of(stored), document, definitions)
    return Draft("PATCH", key, resource, seen=stored.version)
