"""Handlers that know which search parameters are in force when they begin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fhir_server.access.session import Session
from fhir_server.interactions.ports import Handler
from fhir_server.model.exchange import Request, Response

UNCONCERNED: Final = frozenset({"read", "read-binary", "vread", "vread-binary"})
"""Interactions for which it does not matter. (A write looks by itself.)"""
IF: Final = {"create": "if-none-exist"}
"""Interactions that search only if a header says so."""

Refresh = Callable[[], Awaitable[None]]


def informed(handlers: Mapping[str, Handler], refresh: Refresh) -> dict[str, Handler]:
    """The same handlers; those that search look first whether parameters have changed."""
    return {
        name: handler if name in UNCONCERNED else _informed(handler, refresh, IF.get(name))
        for name, handler in handlers.items()
    }


def _informed(handler: Handler, refresh: Refresh, header: str | None) -> Handler:
    async def informed_(request: Request, session: Session) -> Response:
        await refresh()
        return await handler(request, session)

    def concerned(request: Request, session: Session) -> Awaitable[Response]:
        asked = header in request.headers
        return informed_(request, session) if asked else handler(request, session)

    return informed_ if header is None else concerned
