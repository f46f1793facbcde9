"""Servers over one MongoDB are killed under load, and so is the database; then the ledger check.

Every process writes by itself, so nobody takes over and nothing is elected: R01, R02, R06, R22.
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import httpx
import pytest

from fhir_server.app import opened
from fhir_server.config import Settings
from fhir_server.store.mongo.documents import Row
from fhir_server.store.mongo.opening import open_store
from fhir_server.store.mongo.store import MongoStore
from tests.faults.check import told_against
from tests.faults.load import Load, Told
from tests.faults.running import Running, running, until
from tests.mongodb import new_url, start

pytestmark = pytest.mark.slow
JSON = {"content-type": "application/fhir+json"}


async def indexed_as_stored(store: MongoStore) -> bool:
    """Whether every document's index arrays are those of the values in its frame."""
    tables = store._tables
    async for document in tables.resource.find({}):
        row = Row(document, tables.codec)
        wanted = tables.keys.indexed(row.key.type, row.values)
        found = tuple(document[field] for field in "ksr")
        if found != (([], [], []) if row.deleted else tuple(wanted)):
            return False
    return True


async def check(url: str, told: Told) -> dict[str, int]:
    store = await open_store(url)
    try:
        assert await indexed_as_stored(store)
        return await told_against(store, told)
    finally:
        await store.close()


def more(load: Load, before: int) -> bool:
    """Has anything been acknowledged since then?"""
    return len(load.told.ok) > before


def gone(server: Running, pid: int) -> bool:
    return pid not in server.workers()


def test_r01_a_server_is_killed_under_load(tmp_path: Path) -> None:
    url = new_url()

    async def rounds() -> Told:
        told = Told()
        for n in range(2):
            with running(tmp_path / "data", "--open", VEHR_STORE=url) as server:
                load = Load(server.base, clients=6, seed=n, told=told)
                await asyncio.to_thread(until, partial(more, load, len(told.ok) + 15))
                server.process.kill()
                await load.stop()
        return told

    told = asyncio.run(rounds())
    assert asyncio.run(check(url, told))["ok"] > 30


@pytest.mark.prove
def test_r02_a_worker_is_killed_under_load(tmp_path: Path) -> None:
    url = new_url()

    async def kill(server: Running) -> Told:
        load = Load(server.base, clients=6, seed=3)
        for _ in range(2):
            await asyncio.to_thread(until, lambda: len(server.workers()) == 2)
            await asyncio.to_thread(until, partial(more, load, len(load.told.ok)))
            pid = server.workers()[0]
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(until, partial(more, load, len(load.told.ok)))
            await asyncio.to_thread(until, partial(gone, server, pid))
        return await load.stop()

    with running(tmp_path / "data", "--workers", "2", "--open", VEHR_STORE=url) as server:
        told = asyncio.run(kill(server))
        assert set(told.statuses) <= {200, 201, 204, 503}, told.statuses
        server.stop()
    asyncio.run(check(url, told))


@pytest.mark.prove
def test_the_database_is_killed_under_load(tmp_path: Path) -> None:
    """What was acknowledged is there when it comes back, and the server goes on by itself."""
    process, port = start(tmp_path / "db", 0, "--sync-on-commit")
    url = f"mongodb://127.0.0.1:{port}/vehr?serverSelectionTimeoutMS=500"

    async def kill(server: Running) -> Told:
        nonlocal process
        load = Load(server.base, clients=4, seed=4)
        await asyncio.to_thread(until, partial(more, load, 15))
        process.kill()
        process.wait()
        await asyncio.to_thread(until, lambda: 503 in load.told.statuses)
        process, _ = start(tmp_path / "db", port, "--sync-on-commit")
        await asyncio.to_thread(until, partial(more, load, len(load.told.ok) + 10))
        return await load.stop()

    try:
        with running(tmp_path / "data", "--open", VEHR_STORE=url) as server:
            told = asyncio.run(kill(server))
        assert set(told.statuses) <= {200, 201, 204, 503}, told.statuses
        asyncio.run(check(url, told))
    finally:
        process.kill()
        process.wait()


def test_r22_a_revoked_token_is_refused_by_every_worker(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", store=new_url())

    async def issue() -> str:
        async with opened(settings) as domain:
            return await domain.tokens.issue(scope="system/*.cruds", minutes=5, client="test")

    async def revoke(token: str) -> None:
        async with opened(settings) as domain:
            assert await domain.tokens.revoke(token)

    def statuses(root: str, token: str) -> set[int]:
        headers = {"authorization": f"Bearer {token}"}
        return {httpx.get(f"{root}/fhir/Patient", headers=headers).status_code for _ in range(24)}

    with running(settings.data, "--workers", "2", VEHR_STORE=settings.store) as server:
        token = asyncio.run(issue())
        assert statuses(server.root, token) == {200}
        asyncio.run(revoke(token))
        assert statuses(server.root, token) == {401}


def test_r06_conditional_creates_from_several_servers(tmp_path: Path) -> None:
    """The same condition, sent to two servers at the same time: one resource."""
    url = new_url()

    async def crowd(bases: list[str]) -> None:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            for n in range(5):
                body = {"resourceType": "Patient", "identifier": [{"value": str(n)}]}
                headers = JSON | {"if-none-exist": f"identifier={n}"}
                answers = await asyncio.gather(
                    *(
                        client.post(f"{base}/Patient", json=body, headers=headers)
                        for base in bases
                        for _ in range(8)
                    )
                )
                assert sorted(a.status_code for a in answers) == [200] * 15 + [201]
            count = await client.get(f"{bases[0]}/Patient?_summary=count")
            assert count.json()["total"] == 5

    with (
        running(tmp_path / "a", "--open", VEHR_STORE=url) as one,
        running(tmp_path / "b", "--open", VEHR_STORE=url) as other,
    ):
        asyncio.run(crowd([one.base, other.base]))
