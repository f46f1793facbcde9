"""delete: https://hl7.org/fhir/R4/http.html#delete"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.access.writing import Draft
from fhir_server.interactions.answer import refuse_parameters
from fhir_server.interactions.preconditions import expected
from fhir_server.model.exchange import Request, Response
from fhir_server.model.resource import Key


async def delete(request: Request, session: Session) -> Response:
    """204 whether it was there, deleted before, hidden or never there: the same bytes."""
    refuse_parameters(request)
    key = Key(*request.path)
    version = await expected(request, session, key)
    await session.write([Draft("DELETE", key, if_match=version)])
    return Response(204)
