"""read: https://hl7.org/fhir/R4/http.html#read"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.interactions.answer import of, refuse_parameters, version_headers
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.preconditions import not_modified
from fhir_server.interactions.subset import PARTS, Cut, Subsets, part
from fhir_server.model.exchange import Request, Response
from fhir_server.model.resource import Key


def read(subsets: Subsets) -> Handler:
    """The handler of read: the current version, or 304 if the client has it."""

    async def read_(request: Request, session: Session) -> Response:
        key = Key(*request.path)
        cut = session.noting(_cut(subsets, key.type, request) if request.query else None)
        stored = await session.read(key)
        if not_modified(request, stored):
            return Response(304, b"", version_headers(stored))
        return of(stored if cut is None else cut(stored))

    return read_


def _cut(subsets: Subsets, type_: str, request: Request) -> Cut | None:
    refuse_parameters(request, *PARTS)
    return part(subsets, (type_,), request.query)
