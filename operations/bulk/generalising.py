"""Of what a code is a kind, for exports that show rare codes as something more common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fhir_server.access.session import Session
from operations.deid.cohort.census import Parents
from operations.terms import SourceOf
from terminology.local import Local

ParentsFor: TypeAlias = Callable[[Session], Parents]


def parents_of(source_of: SourceOf) -> ParentsFor:
    """By the code systems that a session sees whose hierarchy is one of kinds. Of several parents
    the one that sorts first is taken, so that the same set comes out alike."""

    def parents_for(session: Session) -> Parents:
        work = Local(source_of(session)).work

        async def parent(system: str, code: str) -> str | None:
            concepts = await work.concepts(system) if system else None
            if concepts is None or not concepts.is_a:
                return None
            return min(concepts.parents(code), default=None)

        return parent

    return parents_for
