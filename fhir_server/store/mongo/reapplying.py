"""What was erased stays erased: the erase log applied to a database that is older, as it is after
``mongorestore``. Other servers may be at work on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fhir_server.model.datatypes import parse_instant
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import History
from fhir_server.store.base import EraseSet, Erasure, Stale, Store
from fhir_server.store.erase_log import KIND, Entry
from fhir_server.store.ledger import LedgerWrite

PAGE: Final = 500
TRIES: Final = 5


async def reapply(store: Store, log: Iterable[Entry]) -> int:
    """Erases what the log names, as of when it was erased; how many entries were not known.

    What was written with the same id afterwards stays, and so does a version that is current:
    nothing newer is there. Raises Unavailable.
    """
    entries = list(log)
    if not entries:
        return 0
    known = {row.key for row in await store.ledger.scan(KIND)}
    unknown = [entry for entry in entries if entry.key not in known]
    for entry in unknown:
        await _settled(store, entry)
    if unknown:
        await store.scrub()
    return len(unknown)


async def _settled(store: Store, entry: Entry) -> None:
    """Another server may do the same, or write the resource, at the same time."""
    for left in reversed(range(TRIES)):
        try:
            await store.erase(await _erase_set(store, entry))
            return
        except Stale:
            if await store.ledger.get(KIND, entry.key) is not None:
                return
            if not left:
                raise


async def _erase_set(store: Store, entry: Entry) -> EraseSet:
    key, at = Key(entry.type, entry.id), parse_instant(entry.at)
    there = await _versions(store, key)
    wanted = None if entry.versions is None else frozenset(entry.versions)
    older = [
        stored.version
        for stored in there
        if stored.updated <= at and (wanted is None or stored.version in wanted)
    ]
    rows = [entry.row()]
    for version in older if wanted is None else sorted(wanted):
        rows += await _content(store, f"{key}/{version}")
    if not older:
        return EraseSet((), tuple(rows))
    newest = max(stored.version for stored in there)
    if wanted is None and newest in older:
        return EraseSet((Erasure(key, newest),), tuple(rows))
    versions = tuple(sorted(version for version in older if version != newest))
    return EraseSet((Erasure(key, newest, versions),), tuple(rows))


async def _versions(store: Store, key: Key) -> list[Stored]:
    found: list[Stored] = []
    before: int | None = None
    while True:
        page = await store.versions(History(key.type, key.id, count=PAGE, before=before))
        found += page.entries
        if page.next is None:
            return found
        before = page.next


async def _content(store: Store, place: str) -> list[LedgerWrite]:
    """What takes the names from the content of a version, so that it is swept."""
    row = await store.ledger.get("blob", place)
    if row is None:
        return []
    used = f"{row.value['sha256']}/{place}"
    return [LedgerWrite("blob", place, None), LedgerWrite("blob-use", used, None)]
