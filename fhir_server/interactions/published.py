"""What the server itself publishes, such as the OperationDefinitions that ``metadata`` names.

They are made from the registries and are not part of the record, so they are only read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.interactions.ports import Handler
from fhir_server.model.exchange import Json, Request, Response


def published(read: Handler, resources: Iterable[Json]) -> Handler:
    """``read``, which also knows these."""
    bodies = {(r["resourceType"], r["id"]): dumps(r) for r in resources}

    async def own(body: bytes, type_: str, session: Session) -> Response:
        session.allow("r", type_)
        return Response(200, body)

    def read_(request: Request, session: Session) -> Awaitable[Response]:
        type_, id_ = request.path
        body = bodies.get((type_, id_))
        return read(request, session) if body is None else own(body, type_, session)

    return read_


def document(content: Json) -> Handler:
    """A document that is no resource, the same for everybody and in every format asked for."""
    body = dumps(content)

    async def document_(request: Request, session: Session) -> Response:
        headers = {"Cache-Control": "public, max-age=300"}
        return Response(200, body, headers, "application/json")

    return document_
