"""read: https://hl7.org/fhir/R4/http.html#read"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.interactions.answer import of, refuse_parameters, version_headers
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.preconditions import not_modified
from fhir_server.interactions.subset import Cut, Subsets, subset
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key
from fhir_server.search.results import element_names


def read(subsets: Subsets) -> Handler:
    """The handler of read: the current version, or 304 if the client has it."""

    async def read_(request: Request, session: Session) -> Response:
        key = Key(*request.path)
        cut = _cut(subsets, key.type, request) if request.query else None
        stored = await session.read(key)
        if not_modified(request, stored):
            return Response(304, b"", version_headers(stored))
        return of(stored if cut is None else cut(stored))

    return read_


def _cut(subsets: Subsets, type_: str, request: Request) -> Cut | None:
    """``_summary`` or ``_elements``: https://hl7.org/fhir/R4/http.html#summary"""
    refuse_parameters(request, "_summary", "_elements")
    asked = dict(request.query)
    if len(asked) < len(request.query) or (len(asked) > 1 and asked["_summary"] != "false"):
        raise BadRequest("_summary and _elements go alone and once")
    summary = asked.get("_summary", "false")
    subsets.cut(summary)
    elements = asked.get("_elements")
    names = () if elements is None else element_names(subsets.definitions, (type_,), elements)
    return subset(subsets, summary, names)
