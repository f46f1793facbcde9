"""update: https://hl7.org/fhir/R4/http.html#update"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.access.writing import Draft
from fhir_server.interactions.answer import refuse_parameters, written
from fhir_server.interactions.preconditions import body_of, expected
from fhir_server.model.exchange import Request, Response
from fhir_server.model.resource import Key


async def update(request: Request, session: Session) -> Response:
    """A new version; also brings a deleted resource back."""
    refuse_parameters(request)
    key = Key(*request.path)
    resource = body_of(request, *key)
    version = await expected(request, session, key)
    [result] = await session.write([Draft("PUT", key, resource, version)])
    return written(request, result)
