"""create: https://hl7.org/fhir/R4/http.html#create

With If-None-Exist: https://hl7.org/fhir/R4/http.html#ccreate
"""

from __future__ import annotations

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.interactions.answer import (
    location,
    preferred_body,
    refuse_parameters,
    version_headers,
    written,
)
from fhir_server.interactions.conditional import one_or_none, settle
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.preconditions import body_of
from fhir_server.interactions.target import pairs
from fhir_server.model.exchange import Request, Response
from fhir_server.model.resource import Key


def create(criteria: Criteria) -> Handler:
    """The handler of create; ``criteria`` reads the search of If-None-Exist."""

    async def create_(request: Request, session: Session) -> Response:
        refuse_parameters(request)
        (type_,) = request.path
        draft = Draft("POST", Key(type_, session.new_id()), body_of(request, type_))
        condition = request.headers.get("if-none-exist")
        if condition is not None:
            return await settle(lambda: unless_found(request, session, draft, condition))
        [result] = await session.write([draft])
        return written(request, result)

    async def unless_found(
        request: Request, session: Session, draft: Draft, condition: str
    ) -> Response:
        scan = await criteria(draft.key.type, pairs(condition.removeprefix("?")))
        guard = await session.find(scan)
        existing = one_or_none(guard, condition)
        if existing is not None:
            stored = await session.read(Key(draft.key.type, existing))
            headers = {**version_headers(stored), "Location": location(request.base, stored)}
            body = preferred_body(request, stored)
            return Response(200, body, headers, updated=stored.updated)
        guarded = Draft("POST", draft.key, draft.resource, guards=(guard,))
        [result] = await session.write([guarded])
        return written(request, result)

    return create_
