"""update: https://hl7.org/fhir/R4/http.html#update

By a search: https://hl7.org/fhir/R4/http.html#cond-update
"""

from __future__ import annotations

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.interactions.answer import refuse_parameters, written
from fhir_server.interactions.conditional import one_or_none, readable, settle
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.preconditions import body_of, expected, given_id, only_new
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest, PreconditionFailed
from fhir_server.model.resource import Key


async def update(request: Request, session: Session) -> Response:
    """A new version; also brings a deleted resource back."""
    refuse_parameters(request)
    key = Key(*request.path)
    resource = body_of(request, *key)
    if only_new(request):
        draft = Draft("PUT", key, resource, new=True)
    else:
        draft = Draft("PUT", key, resource, await expected(request, session, key))
    [result] = await session.write([draft])
    return written(request, result)


def conditional_update(criteria: Criteria) -> Handler:
    """The handler of conditional-update; ``criteria`` reads the search of the URL."""

    async def update_(request: Request, session: Session) -> Response:
        (type_,) = request.path
        session.allow("u", type_)
        resource = body_of(request, type_)
        scan = await criteria(type_, request.query)

        async def attempt() -> Response:
            guard = await session.find(scan)
            found = one_or_none(guard, readable(request.query))
            key, method = target(type_, resource, found, session)
            version = await expected(request, session, key) if found else None
            if not found and "if-match" in request.headers:
                raise PreconditionFailed("If-Match: the condition matches no resource")
            identified = {**resource, "id": key.id}
            draft = Draft(method, key, identified, version, (guard,), new=found is None)
            [result] = await session.write([draft])
            return written(request, result)

        return await settle(attempt)

    return update_


def target(type_: str, resource: Json, found: str | None, session: Session) -> tuple[Key, str]:
    """What a conditional update writes to, and as which verb: the one that was found, else
    the id in the body (update as create), else a new one.
    """
    given = given_id(resource)
    if found is None:
        return (Key(type_, given), "PUT") if given else (Key(type_, session.new_id()), "POST")
    if given is not None and given != found:
        raise BadRequest("the id of the resource is not that of the one that matches")
    return Key(type_, found), "PUT"
