"""References written by end users: they resolve to something that the user may know of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from fhir_server.access.engine import Engine
from fhir_server.access.policy import Policy
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Unprocessable
from fhir_server.model.resource import Key
from fhir_server.search.extract import local_references
from fhir_server.search.plan import All, IdIn, Scan, Search

Placed: TypeAlias = tuple[Key, Json, str]
"""What is to be written, and where problems are said to be (``Bundle.entry[3]`` or "")."""


async def check_references(engine: Engine, policy: Policy, written: Sequence[Placed]) -> None:
    """Raises Unprocessable, the same for hidden and for unused ids."""
    own = {key for key, _, _ in written}
    issues: list[Issue] = []
    for _, resource, place in written:
        for type_, id_, path in local_references(resource):
            key = Key(type_, id_)
            if key in own or await _exists(engine, policy, key):
                continue
            text = f"the reference to {key} does not resolve"
            problem = Unprocessable([Issue("not-found", text, path)])
            issues.extend((problem.under(place) if place else problem).issues)
    if issues:
        raise Unprocessable(issues)


async def _exists(engine: Engine, policy: Policy, key: Key) -> bool:
    scan = Scan(key.type, All((IdIn((key.id,)), policy.exists(key.type))))
    page = await engine.store.run(Search((scan,), count=1, total="none"))
    return bool(page.matches)
