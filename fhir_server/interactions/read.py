"""read: https://hl7.org/fhir/R4/http.html#read"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.interactions.answer import of, refuse_parameters, version_headers
from fhir_server.interactions.preconditions import not_modified
from fhir_server.model.exchange import Request, Response
from fhir_server.model.resource import Key


async def read(request: Request, session: Session) -> Response:
    """The current version, or 304 if the client has it."""
    if request.query:
        refuse_parameters(request)
    stored = await session.read(Key(*request.path))
    if not_modified(request, stored):
        return Response(304, b"", version_headers(stored))
    return of(stored)
