"""What handlers are and what they are handed: types only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.search.plan import Scan

Handler = Callable[[Request, Session], Awaitable[Response]]

Criteria = Callable[[str, Sequence[tuple[str, str]]], Awaitable[Scan]]
"""(resource type, search parameters) -> the condition; every parameter must be understood."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request inside a Bundle. ``url`` is relative to the base, still encoded."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Json | None = None


Perform = Callable[[Call, Request, Session], Awaitable[Response]]
"""Runs a Call of the outer Request as any other request is run; raises Problem."""
