"""Whom an answer is about where it does not say so itself: parts of resources, rows, contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fhir_server.access.audit.entry import Recording, named_in
from fhir_server.access.contents import context_of
from fhir_server.access.engine import Engine
from fhir_server.formats.json import loads
from fhir_server.model.resource import Stored

Cut = Callable[[Stored], Stored]
PATIENT = "Patient"


def noted(recording: Recording | None, rows: Iterable[Stored]) -> None:
    """Adds the patients of these to the line of the request."""
    if recording is None:
        return
    for row in rows:
        recording.patients |= {row.key.id} if row.key.type == PATIENT else named_in(row.body)


def noting(recording: Recording | None, cut: Cut | None) -> Cut | None:
    """The cut, which takes away whose data it is; whom it is made of is noted."""
    if cut is None or recording is None:
        return cut
    part = cut

    def of(stored: Stored) -> Stored:
        noted(recording, (stored,))
        return part(stored)

    return of


async def context_noted(engine: Engine, recording: Recording | None, binary: Stored) -> None:
    """A Binary is about whom that is about which stands in for it."""
    context = context_of(loads(binary.body)) if recording is not None else None
    if context is not None:
        found = await engine.store.current([context])
        noted(recording, [one for one in found if one is not None])
