"""Stores with a search engine beside them, for tests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fhir_server.model.resource import Key, Stored
from fhir_server.search.values import IndexValues
from fhir_server.store.base import ChangeSet, Committed, Store
from fhir_server.store.elastic.cluster import Cluster
from fhir_server.store.elastic.store import SearchedStore
from fhir_server.store.elastic.vectors import Embedder


class Told(SearchedStore):
    """It is told the index values of a version, which else would be extracted."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        known: Collection[str] = (),
        embedder: Embedder | None = None,
    ) -> None:
        self._values: dict[tuple[Key, int], IndexValues] = {}

        def read(stored: Stored) -> IndexValues:
            return self._values.get((stored.key, stored.version)) or IndexValues()

        super().__init__(store, cluster, read, lambda _: known, embedder)

    async def apply(self, change_set: ChangeSet) -> Committed:
        for change in change_set.changes:
            if change.values is not None:
                self._values[change.key, change.version] = change.values
        return await super().apply(change_set)


def inner(store: Any) -> Store:
    """The store below."""
    found: Store = store._store
    return found
