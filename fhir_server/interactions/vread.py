"""vread: https://hl7.org/fhir/R4/http.html#vread"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.interactions.answer import of, refuse_parameters, version_headers
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.preconditions import not_modified
from fhir_server.interactions.subset import PARTS, Subsets, part
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import NotFound
from fhir_server.model.resource import Key

MOST_DIGITS = 18


def vread(subsets: Subsets) -> Handler:
    """The handler of vread: one version, or 304 if the client has it."""

    async def vread_(request: Request, session: Session) -> Response:
        refuse_parameters(request, *PARTS)
        type_, id_, version = request.path
        cut = session.noting(part(subsets, (type_,), request.query) if request.query else None)
        stored = await session.vread(Key(type_, id_), number(version))
        if not_modified(request, stored):
            return Response(304, b"", version_headers(stored))
        return of(stored if cut is None else cut(stored))

    return vread_


def number(version: str) -> int:
    """Versions of this server count from 1; any other version id is legal but not known."""
    if not version.isdigit() or len(version) > MOST_DIGITS or version[0] == "0":
        raise NotFound(f"version {version} is not known")
    return int(version)
