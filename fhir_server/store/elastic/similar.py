"""What resembles a text, nearest first, of what a scan finds.

https://www.elastic.co/guide/en/elasticsearch/reference/8.19/knn-search.html
"""

from __future__ import annotations

from typing import Final

from fhir_server.model.resource import Stored
from fhir_server.search.plan import Scan, Search, SortKey
from fhir_server.store.base import Store
from fhir_server.store.elastic.searching import View, narrowed, too_many
from fhir_server.store.elastic.vectors import LETTERS, Embedder

MOST: Final = 1000
"""Neighbours that are looked at before a search is refused as too costly."""
CANDIDATES: Final = 10_000
"""The engine's own limit of what it compares in a shard."""
BY_ID: Final = (SortKey("_id", "id"),)


async def nearest(
    store: Store, view: View, embedder: Embedder, scan: Scan, text: str, count: int
) -> list[Stored]:
    """Up to ``count`` resources. ``scan`` is restricted already; the store judges all of it, so
    more neighbours are asked for until enough of them are meant."""
    (vector,) = await embedder.embed([text[:LETTERS]])
    query = view.query(scan).query or {"match_all": {}}
    wanted = max(1, min(count * 2, MOST))
    while True:
        hits = await view.index.nearest(vector, query, wanted, min(wanted * 10, CANDIDATES))
        scans = narrowed((scan,), (hit.key for hit in hits))
        page = await store.run(Search(scans, BY_ID, max(len(hits), 1), total="none"))
        there = {(stored.key, stored.seq): stored for stored in page.matches}
        found = [there[h.key, h.seq] for h in hits if (h.key, h.seq) in there]
        if len(found) >= count or len(hits) < wanted:
            return found[:count]
        if wanted == MOST:
            raise too_many()
        wanted = min(wanted * 4, MOST)
