"""Conditions that are decided by a search: https://hl7.org/fhir/R4/http.html#cond-update

The search runs before the write and again inside it (a guard); if its answer moved in
between, everything is looked at once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from fhir_server.access.ports import Guard, Stale
from fhir_server.model.problem import PreconditionFailed, Unavailable

Answer = TypeVar("Answer")

ATTEMPTS: Final = 64


def one_or_none(guard: Guard, condition: str) -> str | None:
    """The id that a condition finds; PreconditionFailed if it finds several."""
    if len(guard.ids) > 1:
        raise PreconditionFailed(f"the condition matches more than one resource: {condition[:200]}")
    return guard.ids[0] if guard.ids else None


def few(guard: Guard, condition: str, most: int) -> tuple[str, ...]:
    """The ids that a condition finds; PreconditionFailed if they are more than ``most``."""
    if most == 1:
        found = one_or_none(guard, condition)
        return () if found is None else (found,)
    if len(guard.ids) > most:
        raise PreconditionFailed(f"the condition matches more than {most} resources")
    return guard.ids


def readable(query: Iterable[tuple[str, str]]) -> str:
    """The criteria of a URL, for people."""
    return "&".join(f"{name}={value}" for name, value in query)


async def settle(attempt: Callable[[], Awaitable[Answer]]) -> Answer:
    """Repeat an attempt whose conditions moved while it was under way."""
    for turn in range(ATTEMPTS):
        try:
            return await attempt()
        except Stale:
            await asyncio.sleep(0.001 * min(turn, 8))
    raise Unavailable("the condition is being changed by others", headers={"Retry-After": "1"})
