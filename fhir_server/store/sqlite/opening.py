"""Opening a data directory: who writes, who hands over, who is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fhir_server.store.sqlite.schema import FILE
from fhir_server.store.sqlite.store import SqliteStore
from fhir_server.store.sqlite.writer import LocalWriter


async def open_store(path: Path, role: str, now: Callable[[], float] = time.time) -> SqliteStore:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    writer = LocalWriter(path / FILE, now)
    return SqliteStore(path / FILE, writer, now)
