"""What references of a write lead to, as far as its author may see it.

What is hidden is as if it were not there, so nothing is told of it; what is written with it counts
as it will be, so that a resource is judged in a bundle as it is alone after its targets.
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.access.conformance.judging import Reading, followed, key_of
from fhir_server.access.drafts import Draft
from fhir_server.access.engine import Engine
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue


class Targets:
    """Of one write. ``session``: of its author."""

    def __init__(self, engine: Engine, session: Reading, drafts: Iterable[Draft]) -> None:
        self._conformance = engine.conformance
        self._session = session
        self._own = {
            draft.key: {**draft.resource, "id": draft.key.id}
            for draft in drafts
            if draft.resource is not None
        }

    async def told(self, resource: Json) -> tuple[Issue, ...]:
        """What is to be told of a resource that is written. Unprocessable: it is refused."""
        if self._conformance is None:
            return ()
        return await self._conformance.on_write(resource, self._resolved)

    async def _resolved(self, text: str) -> Json | None:
        assert self._conformance is not None
        base = self._conformance.base
        key = key_of(text, base)
        if key is not None and key in self._own:
            return self._own[key]
        return await followed(self._session, text, base)
