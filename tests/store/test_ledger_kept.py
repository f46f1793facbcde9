"""Ledger rows that the writer's process remembers never outlive a change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fhir_server.store.base import ChangeSet
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite.opening import OpenStore, open_store


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


async def _value(store: OpenStore, key: str) -> object:
    row = await store.ledger.get("kind", key)
    return None if row is None else (row.value, row.revision)


def test_a_kept_row_is_given_up_when_it_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path, "serve")
        statements: list[str] = []
        store.ledger._connection.set_trace_callback(statements.append)
        try:
            assert await _value(store, "a") is None
            assert await store.ledger.insert_unique("kind", "a", {"n": 1})
            assert await _value(store, "a") == ({"n": 1}, 1)
            seen = len(statements)
            assert await _value(store, "a") == ({"n": 1}, 1)
            assert len(statements) == seen, "the second look needs no statement"
            assert await store.ledger.cas("kind", "a", {"n": 2}, 1)
            assert await _value(store, "a") == ({"n": 2}, 2)
            await store.apply(ChangeSet(ledger=(LedgerWrite("kind", "a", {"n": 3}),)))
            assert await _value(store, "a") == ({"n": 3}, 3)
            assert await store.ledger.cas("kind", "a", None, 3)
            assert await _value(store, "a") is None
        finally:
            await store.close()

    asyncio.run(scenario())


def test_a_kept_row_expires_and_is_not_shared(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path, "serve")
        clock = store.ledger._now = Clock()
        try:
            await store.ledger.insert_unique("kind", "a", {"n": 1}, expires=1010.0)
            row = await store.ledger.get("kind", "a")
            assert row is not None
            row.value["n"] = 99
            assert await _value(store, "a") == ({"n": 1}, 1)
            clock.time = 1010.0
            assert await _value(store, "a") is None
        finally:
            await store.close()

    asyncio.run(scenario())


def test_another_process_changes_what_is_kept(tmp_path: Path) -> None:
    """A command beside the server writes through the server's writer and reads the file."""

    async def scenario() -> None:
        store = await open_store(tmp_path, "serve")
        command = await open_store(tmp_path, "command")
        try:
            await store.ledger.insert_unique("kind", "a", {"n": 1})
            assert await _value(store, "a") == ({"n": 1}, 1)
            assert await command.ledger.cas("kind", "a", {"n": 2}, 1)
            assert command.writer.kept is None
            assert await _value(store, "a") == ({"n": 2}, 2)
            assert await store.ledger.cas("kind", "a", {"n": 3}, 2)
            assert await _value(command, "a") == ({"n": 3}, 3)
        finally:
            await command.close()
            await store.close()

    asyncio.run(scenario())
