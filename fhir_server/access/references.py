"""References written by end users: they resolve to something that the user may know of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from fhir_server.access.contents import nowhere, permitted
from fhir_server.access.engine import Engine
from fhir_server.access.policy import BINARY, Policy
from fhir_server.formats.json import loads
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
        for key, path in _named(engine, resource):
            if key in own or await _exists(engine, policy, key):
                continue
            text = f"the reference to {key} does not resolve"
            problem = Unprocessable([Issue("not-found", text, path)])
            issues.extend((problem.under(place) if place else problem).issues)
    if issues:
        raise Unprocessable(issues)


def _named(engine: Engine, resource: Json) -> Iterator[tuple[Key, str]]:
    """What references lead to, and URLs (of attachments) that name a resource of this server."""
    for type_, id_, path in local_references(resource):
        yield Key(type_, id_), path
    for url, path in _urls(resource, resource["resourceType"]):
        found = _LOCAL.fullmatch(url)
        if found is not None and found[1] in engine.definitions.resource_types:
            yield Key(found[1], found[2]), path


def _urls(node: Json, path: str) -> Iterator[tuple[str, str]]:
    for name, child in node.items():
        if name == "url" and type(child) is str:
            yield child, f"{path}.url"
        elif type(child) is dict:
            yield from _urls(child, f"{path}.{name}")
        elif type(child) is list:
            for number, item in enumerate(child):
                if type(item) is dict:
                    yield from _urls(item, f"{path}.{name}[{number}]")


_LOCAL: Final = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/\d+)?")


async def _exists(engine: Engine, policy: Policy, key: Key) -> bool:
    if key.type == BINARY:
        # It is known to who may read it, through what its securityContext names.
        [stored] = await engine.store.current([key])
        if stored is None or stored.deleted:
            return await nowhere(engine, policy)
        return await permitted(engine, policy, "r", loads(stored.body))
    scan = Scan(key.type, All((IdIn((key.id,)), policy.exists(key.type))))
    page = await engine.store.run(Search((scan,), count=1, total="none"))
    return bool(page.matches)
