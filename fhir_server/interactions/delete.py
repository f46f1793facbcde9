"""delete: https://hl7.org/fhir/R4/http.html#delete

By a search: https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.session import Session
from fhir_server.access.writing import Draft
from fhir_server.interactions.answer import refuse_parameters
from fhir_server.interactions.conditional import few, readable, settle
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.preconditions import expected
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import PreconditionFailed
from fhir_server.model.resource import Key

MOST: Final[dict[str, int]] = {"single": 1, "multiple": 1000}
"""Resources that one conditional delete removes, by what the server declares."""


async def delete(request: Request, session: Session) -> Response:
    """204 whether it was there, deleted before, hidden or never there: the same bytes."""
    refuse_parameters(request)
    key = Key(*request.path)
    version = await expected(request, session, key)
    await session.write([Draft("DELETE", key, if_match=version)])
    return Response(204)


def conditional_delete(criteria: Criteria, most: int) -> Handler:
    """The handler of conditional-delete; ``most``: resources that one request may delete."""

    async def delete_(request: Request, session: Session) -> Response:
        (type_,) = request.path
        session.allow("d", type_)
        scan = await criteria(type_, request.query)

        async def attempt() -> Response:
            guard = await session.find(scan, most + 1)
            found = few(guard, readable(request.query), most)
            keys = [Key(type_, id_) for id_ in found]
            version = None
            if "if-match" in request.headers:
                if len(keys) != 1:
                    raise PreconditionFailed("If-Match needs a condition that matches one resource")
                version = await expected(request, session, keys[0])
            if keys:
                await session.write([Draft("DELETE", k, None, version, (guard,)) for k in keys])
            return Response(204)

        return await settle(attempt)

    return delete_
