"""What the server itself publishes, such as the OperationDefinitions that ``metadata`` names.

They are made from the registries and are not part of the record, so they are only read.
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.interactions.ports import Handler
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.resource import Key


def published(read: Handler, resources: Iterable[Json]) -> Handler:
    """``read``, which also knows these."""
    bodies = {Key(r["resourceType"], r["id"]): dumps(r) for r in resources}

    async def read_(request: Request, session: Session) -> Response:
        body = bodies.get(Key(*request.path))
        if body is None:
            return await read(request, session)
        session.allow("r", request.path[0])
        return Response(200, body)

    return read_


def document(content: Json) -> Handler:
    """A document that is no resource, the same for everybody and in every format asked for."""
    body = dumps(content)

    async def document_(request: Request, session: Session) -> Response:
        headers = {"Cache-Control": "public, max-age=300"}
        return Response(200, body, headers, "application/json")

    return document_
