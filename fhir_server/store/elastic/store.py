"""A store whose searches with words are answered with an Elasticsearch beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key, Stored
from fhir_server.search.explain import Trace
from fhir_server.search.plan import History, Scan, Search
from fhir_server.store.base import (
    ChangeSet,
    Committed,
    Erased,
    EraseSet,
    Page,
    Reindexed,
    Store,
    Versions,
)
from fhir_server.store.elastic.cluster import Cluster, Missing
from fhir_server.store.elastic.follower import Follower, Read
from fhir_server.store.elastic.queries import Indexed
from fhir_server.store.elastic.searching import Searcher, asks_for_words
from fhir_server.store.elastic.similar import nearest
from fhir_server.store.elastic.state import ERASE
from fhir_server.store.elastic.vectors import Embedder, required
from fhir_server.store.ledger import Ledger, LedgerWrite

TELLING: Final = 1.0
"""Seconds after which is told how far a new index has come."""
POLL: Final = 0.2


class SearchedStore:
    """A ``Store`` over another. ``read``, ``indexed``: index values of a version by FHIR's own
    parameters, and the names of these indexes. ``embedder``: see ``vectors.py``."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        read: Read,
        indexed: Indexed,
        embedder: Embedder | None = None,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._embedder = embedder
        self.follower = Follower(store, cluster, read, embedder)
        self._searcher = Searcher(store, cluster, self.follower, indexed, read)

    @property
    def ledger(self) -> Ledger:
        return self._store.ledger

    def following(self) -> AbstractAsyncContextManager[None]:
        """The index follows by itself meanwhile."""
        return self.follower.running()

    async def rebuild(self, told: Callable[[int, int], None]) -> int:
        """Makes the index anew and waits for it; searches use the old one meanwhile. ``told``:
        how far it has come in the change feed, and the last position, which is the result."""
        position = await self._store.position()
        name = await self.follower.rebuild()
        while True:
            done = await self.follower.follow(time.monotonic() + TELLING)
            state = (await self.follower.states.read()).state
            if state is None or name not in state.names:
                raise Unavailable("the index was removed while it was made")
            if state.index == name and state.seq >= position:
                told(position, position)
                return position
            told(state.next_seq if state.next == name else state.seq, position)
            if not done:
                await asyncio.sleep(POLL)

    async def run(self, search: Search, trace: Trace | None = None) -> Page:
        if search.as_of is not None or not any(asks_for_words(s.where) for s in search.scans):
            return await self._store.run(search, trace)
        return await self._searcher.run(search, trace)

    async def similar(self, scan: Scan, text: str, count: int) -> list[Stored]:
        """What of a (restricted) scan resembles a text most, nearest first. What was written in
        the last seconds may not be known yet. Raises NotSupported without a model."""
        embedder = required(self._embedder)

        async def found() -> list[Stored]:
            view = await self._searcher.view()
            return await nearest(self._store, view, embedder, scan, text, count)

        return await self._searcher.asked(found())

    async def current(self, keys: Sequence[Key]) -> list[Stored | None]:
        return await self._store.current(keys)

    async def version(self, key: Key, version: int) -> Stored | None:
        return await self._store.version(key, version)

    async def versions(self, history: History) -> Versions:
        return await self._store.versions(history)

    async def apply(self, change_set: ChangeSet) -> Committed:
        committed = await self._store.apply(change_set)
        if change_set.changes:
            self.follower.wake()
        return committed

    async def erase(self, erase_set: EraseSet) -> Erased:
        """What is to go from the index is noted in the same commit."""
        # Whatever is written under these ids from now on makes the erase Stale, or comes later.
        seq = await self._store.position()
        gone = [str(e.key) for e in erase_set.erasures if e.versions is None]
        rows = tuple(LedgerWrite(ERASE, name, {"seq": seq}) for name in gone)
        erased = await self._store.erase(replace(erase_set, ledger=(*erase_set.ledger, *rows)))
        self.follower.wake()
        return erased

    async def scrub(self) -> bool:
        done = await self._store.scrub()
        try:
            return await self.follower.merge() and done
        except (Unavailable, Missing):
            return False

    async def formerly(self, patient: str) -> dict[Key, tuple[int, ...]]:
        return await self._store.formerly(patient)

    async def reindex(self, fresh: Sequence[Reindexed]) -> int:
        return await self._store.reindex(fresh)

    def changes(self, since: int) -> AsyncIterator[Stored]:
        return self._store.changes(since)

    async def position(self) -> int:
        return await self._store.position()

    async def trouble(self) -> str | None:
        """Also why text cannot be searched."""
        found = await self._store.trouble()
        return found if found is not None else await self._cluster.trouble()

    async def counts(self) -> dict[str, int]:
        return await self._store.counts()

    async def close(self) -> None:
        await self.follower.close()
        await self._cluster.close()
        await self._store.close()
