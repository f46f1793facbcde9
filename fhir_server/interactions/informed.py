"""Handlers that know which search parameters are in force when they begin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fhir_server.access.session import Session
from fhir_server.interactions.ports import Handler
from fhir_server.model.exchange import Request, Response

UNCONCERNED: Final = frozenset({"read", "read-binary", "vread", "vread-binary"})
"""Interactions for which it does not matter. (A write looks by itself.)"""

Refresh = Callable[[], Awaitable[None]]


def informed(handlers: Mapping[str, Handler], refresh: Refresh) -> dict[str, Handler]:
    """The same handlers; those that search look first whether parameters have changed."""
    return {
        name: handler if name in UNCONCERNED else _informed(handler, refresh)
        for name, handler in handlers.items()
    }


def _informed(handler: Handler, refresh: Refresh) -> Handler:
    async def informed_(request: Request, session: Session) -> Response:
        await refresh()
        return await handler(request, session)

    return informed_
