"""delete: https://hl7.org/fhir/R4/http.html#delete

By a search: https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fhir_server.access.drafts import Draft, Written
from fhir_server.access.session import Session
from fhir_server.interactions.answer import refuse_parameters, version_headers
from fhir_server.interactions.conditional import few, readable, settle
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.preconditions import expected
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import PreconditionFailed
from fhir_server.model.resource import Key, Stored

MOST: Final[dict[str, int]] = {"single": 1, "multiple": 1000}
"""Resources that one conditional delete removes, by what the server declares."""


async def delete(request: Request, session: Session) -> Response:
    """204, with the ETag of the deletion if there was something to delete.

    Deleted before, hidden and never there: the same bytes.
    """
    refuse_parameters(request)
    key = Key(*request.path)
    version = await expected(request, session, key)
    written = await session.write([Draft("DELETE", key, if_match=version)])
    return _deleted(session, written)


def deletion(session: Session, written: Sequence[Written]) -> Stored | None:
    """The version that one deletion has made, to be told to who could read what it deleted:
    with it a resource is brought back to life by If-Match.
    """
    stored = written[0].stored if len(written) == 1 else None
    return stored if stored is not None and session.reads_what_it_deletes(stored.key.type) else None


def _deleted(session: Session, written: Sequence[Written]) -> Response:
    stored = deletion(session, written)
    if stored is None:
        return Response(204)
    return Response(204, headers=version_headers(stored), updated=stored.updated)


def conditional_delete(criteria: Criteria, most: int) -> Handler:
    """The handler of conditional-delete; ``most``: resources that one request may delete."""

    async def delete_(request: Request, session: Session) -> Response:
        (type_,) = request.path
        session.allow("d", type_)
        scan = await criteria(type_, request.query)

        async def attempt() -> Response:
            guard = await session.find(scan, most + 1)
            found = few(guard, readable(request.query), most)
            keys = [Key(type_, id_) for id_ in found]
            version = None
            if "if-match" in request.headers:
                if len(keys) != 1:
                    raise PreconditionFailed("If-Match needs a condition that matches one resource")
                version = await expected(request, session, keys[0])
            drafts = [Draft("DELETE", k, None, version, (guard,)) for k in keys]
            return _deleted(session, await session.write(drafts) if drafts else [])

        return await settle(attempt)

    return delete_
