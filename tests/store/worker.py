"""A process that writes: one line per acknowledgement, until it is killed.

usage: python -m tests.store.worker FOLDER TAG
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.values import TokenValue
from fhir_server.store.base import ChangeSet, Stale, Store
from fhir_server.store.sqlite.opening import open_store
from tests.store.building import prepared_change, values


def say(*words: object) -> None:
    print(*words, flush=True)


async def client(store: Store, tag: str, number: int) -> None:
    """Creates pairs in one set and updates a resource again and again."""
    for n in range(10_000):
        index = values(TokenValue("tag", "", tag), date=n, patients=(tag,))
        pair = [Key("Pair", f"{tag}-{number}-{n}-{half}") for half in "ab"]
        counter = Key("Count", f"{tag}-{number}")
        changes = [
            *(prepared_change(key, 1, index) for key in pair),
            prepared_change(counter, n + 1, index),
        ]
        say("try", number, n)
        try:
            await store.apply(ChangeSet(tuple(changes)))
        except Unavailable:
            say("unknown", number, n)
            return
        except Stale:
            say("stale", number, n)
            return
        say("ok", number, n)


async def main(folder: str, tag: str) -> None:
    store = await open_store(Path(folder), "worker")
    say("open", "local" if store.writer.local else "remote")
    await asyncio.gather(*(client(store, tag, n) for n in range(4)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
