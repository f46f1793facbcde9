"""A process that erases two resources and is killed at a named instant of it.

usage: python -m tests.store.eraser FOLDER POINT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fhir_server.model.resource import Key
from fhir_server.store.base import EraseSet, Erasure
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite.opening import open_store
from tests.faults.points import kill_at


async def main(folder: str, point: str) -> None:
    kill_at(point, 1)
    store = await open_store(Path(folder), "serve")
    both = tuple(Erasure(Key("Patient", id_), 3) for id_ in "pq")
    await store.erase(EraseSet(both, (LedgerWrite("erased", "1", {"id": "p"}),)))
    print("erased", flush=True)
    await store.scrub()
    print("scrubbed", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
