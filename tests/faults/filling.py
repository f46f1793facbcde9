"""The disk is full, and has room again: R03."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import httpx

from tests.faults.check import check
from tests.faults.disks import fill, free
from tests.faults.load import Load, Told, patient
from tests.faults.running import Running, until

JSON = {"content-type": "application/fhir+json"}
REFUSED = (503, 507)


async def fill_and_free(server: Running, disk: Path, rounds: int, seed: int) -> dict[str, int]:
    """``rounds`` times: full under load, reads go on, health says so, room, it heals."""
    chance = random.Random(seed)
    load = Load(server.base, clients=4, seed=seed)
    async with httpx.AsyncClient(base_url=server.root, timeout=30) as client:
        kept = (await client.post("/fhir/Patient", json=patient("kept"), headers=JSON)).json()
        load.told.ok["kept"] = (kept["id"], 1)
        for number in range(rounds):
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            await asyncio.to_thread(fill, disk)
            await degraded(client, load.told, number)
            read = await client.get(f"/fhir/Patient/{kept['id']}")
            assert read.status_code == 200 and read.json() == kept
            assert (await client.get("/fhir/Patient?_count=5")).status_code == 200
            await content_is_refused(client)
            free(disk)
            before = len(load.told.ok)
            await asyncio.to_thread(until, lambda before=before: len(load.told.ok) > before)
            await asyncio.to_thread(until, lambda: server.health_text() == "ready\n")
    told = await load.stop()
    assert set(told.statuses) <= {200, 201, 204, *REFUSED}, told.statuses
    server.stop()
    found = await check(server.data, told)
    return found | {"refused": sum(told.statuses.get(status, 0) for status in REFUSED)}


async def degraded(client: httpx.AsyncClient, told: Told, number: int) -> None:
    """Writes are refused, in FHIR's words, and health says why."""
    while True:
        incompressible = os.urandom(300_000).hex()
        body = patient(f"full-{number}-{len(told.unknown)}")
        body["contact"] = [{"name": {"text": incompressible}}]
        told.unknown.add(body["identifier"][0]["value"])
        answer = await client.post("/fhir/Patient", json=body, headers=JSON)
        if answer.status_code in REFUSED:
            break
        assert answer.status_code == 201
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome" and "retry-after" in answer.headers
    assert "disk is full" in outcome["issue"][0]["diagnostics"]
    health = await client.get("/health")
    assert (health.status_code, health.text[:23]) == (200, "degraded: the disk is f"), health.text


async def content_is_refused(client: httpx.AsyncClient) -> None:
    """Content that goes beside the database."""
    answer = await client.post(
        "/fhir/Binary", content=b"x" * 3_000_000, headers={"content-type": "text/plain"}
    )
    assert answer.status_code in REFUSED, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
