"""References written by end users: they resolve to something that the user may know of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from fhir_server.access.contents import nowhere, permitted
from fhir_server.access.engine import Engine
from fhir_server.access.masking import NAME, Masking
from fhir_server.access.policy import BINARY, Policy
from fhir_server.access.stripping import Strip
from fhir_server.access.versions import living
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Unprocessable
from fhir_server.model.resource import Key
from fhir_server.search.extract import local_references
from fhir_server.search.plan import All, IdIn, Scan, Search

Placed: TypeAlias = tuple[Key, Json, str, bool]
"""What is to be written, where problems are said to be (``Bundle.entry[3]`` or ""), and may there
be a version of it already?"""


async def check_references(engine: Engine, policy: Policy, written: Sequence[Placed]) -> None:
    """Raises Unprocessable, the same for hidden and for unused ids.

    What the author sees in the current version already may stay: it is not hidden.
    """
    own = {key for key, *_ in written}
    issues: list[Issue] = []
    for written_as, resource, place, again in written:
        named = [
            (key, path)
            for key, path in _named(engine, policy, resource)
            if not (key in own or await _exists(engine, policy, key))
        ]
        known = await _seen(engine, policy, written_as) if named and again else frozenset()
        for key, path in named:
            if key in known:
                continue
            text = f"the reference to {key} does not resolve"
            problem = Unprocessable([Issue("not-found", text, path)])
            issues.extend((problem.under(place) if place else problem).issues)
    if issues:
        raise Unprocessable(issues)


async def _seen(engine: Engine, policy: Policy, key: Key) -> frozenset[Key]:
    """What the author of a new version of this finds named in the current one."""
    [current] = await engine.store.current([key])
    if current is None or current.deleted or await living(engine, policy, "r", key) is None:
        return frozenset()
    [seen] = await Masking(engine, policy).masked((current,))
    return frozenset(named for named, _ in _named(engine, policy, loads(seen.body)))


def _named(engine: Engine, policy: Policy, resource: Json) -> Iterator[tuple[Key, str]]:
    """What references lead to, and what else a mask would look at (``stripping.Strip``): URLs that
    end as the name of something that may be hidden, whichever server they mean."""
    told: set[Key] = set()
    for type_, id_, path in local_references(resource):
        told.add(Key(type_, id_))
        yield Key(type_, id_), path
    masking, texts = Masking(engine, policy), list[str]()

    def note(text: str) -> bool:
        texts.append(text)
        return False

    Strip(engine.definitions, note).resource(resource)
    for text in dict.fromkeys(texts):
        for found in NAME.finditer(text):
            if masking.may_hide(found[1]) and (key := Key(found[1], found[2])) not in told:
                told.add(key)
                yield key, _place(resource, text, resource["resourceType"])


def _place(node: Json, text: str, path: str) -> str:
    """Where the text stands; the path itself if it does not."""
    for name, child in node.items():
        for number, item in enumerate(child) if type(child) is list else [(-1, child)]:
            below = f"{path}.{name}" + (f"[{number}]" if number >= 0 else "")
            if item == text:
                return below
            if type(item) is dict and (found := _place(item, text, below)) != below:
                return found
    return path


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
