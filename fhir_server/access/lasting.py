"""What is streamed is judged again while it flows: a revocation acts within a moment."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Response
from fhir_server.model.problem import Gone
from fhir_server.model.resource import Key

FRESH: Final = 0.5
"""Seconds for which what was permitted is given out without a further look."""


async def lasting(
    stream: AsyncIterator[bytes], judge: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    """The stream, as long as ``judge`` raises nothing; it is asked before a piece leaves that
    comes later than a moment after the last look."""
    judged = time.monotonic()
    async for piece in stream:
        if time.monotonic() - judged > FRESH:
            await judge()
            judged = time.monotonic()
        yield piece


def standing(response: Response, session: Session) -> Response:
    """What is streamed ends with the authorisation by which it was asked for."""
    if not isinstance(response.body, bytes):
        response.body = lasting(response.body, session.renewed)
    return response


def readable(session: Session, key: Key, version: int) -> Callable[[], Awaitable[object]]:
    """May this version still be read? One that was deleted meanwhile may, as it was."""

    async def judge() -> None:
        try:
            await (await session.renewed()).vread(key, version)
        except Gone:
            return

    return judge
