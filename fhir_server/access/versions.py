"""What a policy shows of versions: current, deleted and old ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from typing import Final, NamedTuple

from fhir_server.access.contents import apart, nowhere, permitted
from fhir_server.access.engine import Engine
from fhir_server.access.judging import holds
from fhir_server.access.parting import was_seen
from fhir_server.access.policy import Policy
from fhir_server.access.raising import labels_parted
from fhir_server.access.restrict import restrict_scan
from fhir_server.formats.json import loads
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TRUE, History, IdIn, Predicate, Scan, Search
from fhir_server.store.base import Store, Versions

LOOKED_AT: Final = 100
"""Versions that are looked at between turns for other requests."""


async def living(engine: Engine, policy: Policy, letter: str, key: Key) -> Stored | None:
    """The current version, if it is visible."""
    aside = apart(policy, letter, key.type)
    seen = policy.sees(letter, key.type)
    if aside or seen is TRUE or seen == TRUE:  # then the plan is the key alone
        [stored] = await engine.store.current([key])
        if stored is None or stored.deleted:
            if aside:
                await nowhere(engine, policy)
            return None
        return stored if not aside or await sees(engine, policy, letter, stored) else None
    scan = restrict_scan(Scan(key.type, IdIn((key.id,))), policy, letter)
    page = await engine.store.run(Search((scan,), count=1, total="none"))
    return page.matches[0] if page.matches else None


async def tombstone(engine: Engine, policy: Policy, letter: str, key: Key) -> Stored | None:
    """The deletion that is current, if the version before it was visible."""
    [latest] = await engine.store.current([key])
    if latest is None or not latest.deleted:
        return None
    if policy.sees(letter, key.type) == TRUE:
        return latest
    before = await engine.store.version(key, latest.version - 1)
    more = await labels_parted(engine, key)
    seen = before is not None and await was_seen(engine, policy, letter, before, more)
    return latest if seen else None


class LastTrace(NamedTuple):
    """What there is of something that is not seen. ``tombstone``: the deletion that is current, if
    the version before it was visible; ``hidden``: what lives, or lived last, and is not shown."""

    tombstone: Stored | None = None
    hidden: Stored | None = None


async def trace_of(engine: Engine, policy: Policy, letter: str, key: Key) -> LastTrace:
    """The store is asked the same for what is hidden, deleted or was never there (L53)."""
    [latest] = await engine.store.current([key])
    if policy.sees(letter, key.type) == TRUE:
        return LastTrace(latest if latest is not None and latest.deleted else None, None)
    before = await engine.store.version(key, latest.version - 1 if latest is not None else 0)
    more = await labels_parted(engine, key)
    if latest is None or not latest.deleted:
        return LastTrace(None, latest)
    seen = before is not None and await was_seen(engine, policy, letter, before, more)
    return LastTrace(latest) if seen else LastTrace(None, before)


async def sees(engine: Engine, policy: Policy, letter: str, stored: Stored) -> bool:
    """Does the policy show this version?"""
    if apart(policy, letter, stored.key.type):
        return await permitted(engine, policy, letter, loads(stored.body))
    return visible(engine, policy.sees(letter, stored.key.type), stored)


def visible(engine: Engine, predicate: Predicate, stored: Stored) -> bool:
    """Does a predicate without joins hold for this version?"""
    if predicate == TRUE:
        return True
    return holds(engine, predicate, loads(stored.body), stored.updated)


class VersionFilter:
    """Pages of the versions that a policy shows, filled up so that no gap tells of others."""

    def __init__(self, engine: Engine, policy: Policy, letter: str, types: Collection[str]) -> None:
        self._engine = engine
        self._policy = policy
        self._letter = letter
        self._types = types
        self._known: dict[Key, bool] = {}

    async def page(self, history: History, known: Key | None = None) -> Versions:
        """``known``: the resource whose history it is, if that is settled."""
        if known is not None:
            self._known[known] = True
        found: list[Stored] = []
        before = history.before
        while True:
            step = replace(history, before=before, count=max(history.count + 1, LOOKED_AT))
            versions = await self._engine.store.versions(step)
            for stored in versions.entries:
                if await self._shows(stored):
                    found.append(stored)
                    if len(found) > history.count:
                        return Versions(found[:-1], None, found[-2].seq)
            if versions.next is None:
                return Versions(found)
            before = versions.next
            await asyncio.sleep(0)

    async def _shows(self, stored: Stored) -> bool:
        """A version counts only if its resource, as it is now, may be known."""
        key = stored.key
        if key.type not in self._types:
            return False
        known = self._known.get(key)
        if known is None:
            about = self._engine, self._policy, self._letter, key
            known = await living(*about) is not None or await tombstone(*about) is not None
            self._known[key] = known
        return known and (
            stored.deleted or await sees(self._engine, self._policy, self._letter, stored)
        )


async def versions_of(store: Store, history: History) -> AsyncIterator[Stored]:
    """All of them, newest first."""
    before: int | None = None
    while True:
        page = await store.versions(replace(history, count=500, before=before))
        for stored in page.entries:
            yield stored
        if page.next is None:
            return
        before = page.next
        await asyncio.sleep(0)
