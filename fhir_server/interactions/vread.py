"""vread: https://hl7.org/fhir/R4/http.html#vread"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.interactions.answer import of, refuse_parameters, version_headers
from fhir_server.interactions.preconditions import not_modified
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import NotFound
from fhir_server.model.resource import Key

MOST_DIGITS = 18


async def vread(request: Request, session: Session) -> Response:
    """One version, or 304 if the client has it."""
    refuse_parameters(request)
    type_, id_, version = request.path
    stored = await session.vread(Key(type_, id_), number(version))
    if not_modified(request, stored):
        return Response(304, b"", version_headers(stored))
    return of(stored)


def number(version: str) -> int:
    """Versions of this server count from 1; any other version id is legal but not known."""
    if not version.isdigit() or len(version) > MOST_DIGITS or version[0] == "0":
        raise NotFound(f"version {version} is not known")
    return int(version)
