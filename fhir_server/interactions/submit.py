"""POST [base]: a batch or a transaction, by Bundle.type.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.interactions.answer import refuse_parameters
from fhir_server.interactions.ports import Handler
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest


def submit(batch: Handler, transaction: Handler) -> Handler:
    async def submit_(request: Request, session: Session) -> Response:
        refuse_parameters(request)
        body = request.body or {}
        if body.get("resourceType") != "Bundle":
            raise BadRequest("the body is not a Bundle; a resource is created at its type's URL")
        match body.get("type"):
            case "batch":
                return await batch(request, session)
            case "transaction":
                return await transaction(request, session)
            case _:
                raise BadRequest("Bundle.type is not batch or transaction", code="value")

    return submit_
