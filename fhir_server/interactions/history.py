"""history of a resource, a type or everything: https://hl7.org/fhir/R4/http.html#history"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from fhir_server.access.session import Session
from fhir_server.interactions.answer import refuse_repeated
from fhir_server.interactions.cursors import PARAMETER, Cursors
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.splice import bundle, entry
from fhir_server.interactions.subset import Cut, Subsets, part
from fhir_server.model.datatypes import format_instant, parse_search_date
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Stored
from fhir_server.search.parameters import LIMITS, Context, Limits
from fhir_server.search.plan import History

PAUSE: Final = 32
"""After so many versions that are parsed other requests get a turn."""


@dataclass(frozen=True, slots=True)
class PageSizes:
    """Matches on a page without ``_count``, the most that ``_count`` gets, and what else a
    query may ask for."""

    default: int = 20
    greatest: int = 1000
    limits: Limits = LIMITS


def history(
    cursors: Cursors, sizes: PageSizes, context: Callable[[], Context], subsets: Subsets
) -> Handler:
    """The handler of history on all three levels; ``context``: how dates are read."""
    every = tuple(sorted(subsets.definitions.resource_types))

    async def history_(request: Request, session: Session) -> Response:
        place = "/".join((*request.path, "_history"))
        query, before = _counted(request.query), None
        if [name for name, _ in query] == [PARAMETER]:
            position = cursors.open(session.principal, place, query[0][1])
            query, before = position.query, position.after[0]
        assert before is None or isinstance(before, int)
        plan = _plan(query, before, sizes, context())
        type_, id_ = (*request.path, None, None)[:2]
        cut = session.noting(part(subsets, (type_,) if type_ else every, query))
        versions = await session.history(replace(plan, type=type_, id=id_))
        links = [("self", _link(request, place, query))]
        if plan.count == 0:  # it asks for the total alone, as in a search
            versions = replace(versions, entries=(), next=None)
        if versions.next is not None:
            sealed = cursors.seal(session.principal, place, query, (versions.next,))
            links.append(("next", f"{request.base}/{place}?{PARAMETER}={sealed}"))
        entries = []
        for turn, stored in enumerate(versions.entries, 1):
            entries.append(_entry(request.base, stored, cut))
            if cut is not None and turn % PAUSE == 0:
                await asyncio.sleep(0)
        return Response(200, bundle("history", entries, total=versions.total, links=links))

    return history_


def _counted(query: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """``_summary=count`` is another word for ``_count=0``, here as in a search."""
    if ("_summary", "count") not in query:
        return query
    return (*(pair for pair in query if pair[0] not in ("_count", "_summary")), ("_count", "0"))


def _plan(
    query: tuple[tuple[str, str], ...], before: int | None, sizes: PageSizes, context: Context
) -> History:
    count, since, at = sizes.default, None, None
    refuse_repeated(query)
    for name, value in query:
        match name:
            case "_count" if value.isascii() and value.isdigit() and len(value) < 10:
                count = min(int(value), sizes.greatest)
            case "_since":
                since = _begin(value, context)
            case "_at":
                at = _period(value, context)
            case "_count":
                raise BadRequest("_count is not a whole number")
            case "_summary" | "_elements":
                pass  # of the answer's form
            case _:
                raise BadRequest(f"the parameter {name[:80]!r} is not supported here")
    return History(since=since, at=at, count=count, before=before)


def _period(value: str, context: Context) -> tuple[int, int]:
    """``_at``: a date or time as the range that it covers."""
    try:
        return parse_search_date(value, context.zone)
    except ValueError:
        raise BadRequest("_at is not a date or time") from None


def _begin(value: str, context: Context) -> int:
    """``_since``: an instant; of a date, as people write it, the beginning."""
    try:
        return parse_search_date(value, context.zone)[0]
    except ValueError:
        raise BadRequest("_since is not an instant or a date") from None


def _link(request: Request, place: str, query: tuple[tuple[str, str], ...]) -> str:
    return f"{request.base}/{place}" + (f"?{urlencode(query)}" if query else "")


def _entry(base: str, stored: Stored, cut: Cut | None) -> bytes:
    created = stored.version == 1 or stored.method == "POST"
    status = "204 No Content" if stored.deleted else "201 Created" if created else "200 OK"
    url = stored.key.type if stored.method == "POST" else str(stored.key)
    parts: Json = {
        "request": {"method": stored.method, "url": url},
        "response": {
            "status": status,
            "etag": stored.etag,
            "lastModified": format_instant(stored.updated),
        },
    }
    body = stored.body if cut is None or stored.deleted else cut(stored).body
    return entry(f"{base}/{stored.key}", body, parts)
