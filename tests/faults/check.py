"""The ledger check: what the clients were told against what is stored.

ok is stored once and where it was said, what is stored was sent, transactions are whole or
absent, versions are 1..n with rising times, the index says what the bodies say.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from pathlib import Path

from fhir_server.formats.json import loads
from fhir_server.store.base import Store
from fhir_server.store.sqlite import schema
from fhir_server.store.sqlite.opening import open_store
from tests.faults.load import SYSTEM, Place, Told
from tests.store.test_sqlite import indexed_as_stored

WHOLE = 3
"""Entries of a transaction of the load."""


async def check(folder: Path, told: Told, apart: frozenset[str] = frozenset()) -> dict[str, int]:
    """AssertionError for anything lost, doubled, torn or invented; counts for the report.

    ``apart``: types that did not come from the load.
    """
    store = await open_store(folder, "command")
    try:
        connection = sqlite3.connect(folder / schema.FILE)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert indexed_as_stored(connection, store._reader), "the index differs from the bodies"
        connection.close()
        return await told_against(store, told, apart)
    finally:
        await store.close()


async def told_against(
    store: Store, told: Told, apart: frozenset[str] = frozenset()
) -> dict[str, int]:
    """``check`` as far as it is the same for every store."""
    places: dict[str, list[Place]] = {}
    history: dict[str, list[tuple[int, int, bool]]] = {}
    async for stored in store.changes(0):
        if stored.key.type in apart:
            continue
        id_, version = stored.key.id, stored.version
        history.setdefault(id_, []).append((version, stored.updated, stored.deleted))
        for identifier in () if stored.deleted else loads(stored.body)["identifier"]:
            if identifier["system"] == SYSTEM:
                places.setdefault(identifier["value"], []).append((id_, version))
    live = sum(not versions[-1][2] for versions in history.values())
    counts = await store.counts()
    assert sum(n for type_, n in counts.items() if type_ not in apart) == live
    _tags(told, places)
    _versions(told, history)
    return {"ok": len(told.ok), "unknown": len(told.unknown), "versions": _total(history)}


def _tags(told: Told, places: dict[str, list[Place]]) -> None:
    for tag, where in told.ok.items():
        found = places.get(tag, [])
        if where is None:
            assert len(found) == WHOLE, f"{tag}: acknowledged, {len(found)} of {WHOLE} stored"
        else:
            assert found == [where], f"{tag}: acknowledged at {where}, stored at {found}"
    invented = places.keys() - told.ok.keys() - told.unknown
    assert not invented, f"stored, but never taken: {sorted(invented)[:5]}"
    sizes = Counter(len(places.get(tag, ())) for tag in told.unknown)
    assert sizes.keys() <= {0, 1, WHOLE}, f"torn or doubled: {sizes}"


def _versions(told: Told, history: dict[str, list[tuple[int, int, bool]]]) -> None:
    for id_, versions in history.items():
        assert [n for n, _, _ in versions] == list(range(1, len(versions) + 1)), id_
        times = [updated for _, updated, _ in versions]
        assert all(a < b for a, b in itertools.pairwise(times)), f"{id_}: times"
        if any(deleted for _, _, deleted in versions):
            assert id_ in told.perhaps_deleted, f"{id_} was deleted by nobody"
    for id_ in told.deleted:
        assert history[id_][-1][2], f"{id_}: the deletion was acknowledged and is not stored"


def _total(history: dict[str, list[tuple[int, int, bool]]]) -> int:
    return sum(map(len, history.values()))
