"""What is very large: a history, a Group, a content. Memory stays bounded: R26."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx

from bench.client import Connection
from tests.faults.crowding import sample
from tests.faults.running import Running

MEMORY = 200_000_000
"""Bytes that the server may need beyond what it has at its start."""
PART = 1 << 20
JSON = {"content-type": "application/fhir+json"}


class Bounded:
    """Looks at the memory of a server while something goes on."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._first = self.most = sample(server).memory
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, sample(self._server).memory)
            await asyncio.sleep(0.1)

    def end(self, allowed: int = MEMORY) -> str:
        self._task.cancel()
        more = self.most - self._first
        assert more < allowed, f"{more:,} bytes more"
        return f"{more / 2**20:,.0f} MiB more memory at most"


async def versions(server: Running, count: int) -> str:
    """A resource with a very long history: written, read, paged from both ends."""
    memory, connection = Bounded(server), Connection(server.base, None)
    for number in range(count):
        body = {"resourceType": "Basic", "id": "long", "code": {"text": str(number)}}
        answer = await connection.request("PUT", "/Basic/long", json.dumps(body).encode())
        assert answer.status in (200, 201), answer
    page = (await connection.request("GET", "/Basic/long/_history?_count=50")).json()
    assert page["total"] == count and len(page["entry"]) == min(50, count)
    for version in (1, count // 2 or 1, count):
        answer = await connection.request("GET", f"/Basic/long/_history/{version}")
        assert answer.json()["code"]["text"] == str(version - 1)
    assert (await connection.request("GET", "/Basic?_id=long")).json()["total"] == 1
    url: str | None = "/Basic/long/_history?_count=1000"
    seen = 0
    while url:
        page = (await connection.request("GET", url)).json()
        seen += len(page["entry"])
        links = {link["relation"]: link["url"] for link in page["link"]}
        url = links["next"].partition("/fhir")[2] if "next" in links else None
    assert seen == count
    await connection.close()
    return f"all read back; {memory.end()}"


def members(count: int) -> dict[str, Any]:
    member = [{"entity": {"reference": f"Patient/{number}"}} for number in range(count)]
    return {
        "resourceType": "Group",
        "id": "all",
        "type": "person",
        "actual": True,
        "member": member,
    }


async def group(server: Running, count: int) -> str:
    """A Group is taken, and found by a member, or refused by a limit that is named."""
    memory = Bounded(server)
    content = json.dumps(members(count)).encode()
    async with httpx.AsyncClient(base_url=server.root, timeout=300) as client:
        answer = await client.put("/fhir/Group/all", content=content, headers=JSON)
        health = await client.get("/health")
        assert health.status_code == 200
        if answer.status_code in (400, 413):
            said = answer.json()["issue"][0]
            assert said["code"] in ("too-long", "too-costly"), said
            return f"refused: {said['diagnostics']}; {memory.end()}"
        assert answer.status_code == 201, answer.text[:300]
        found = await client.get(f"/fhir/Group?member=Patient/{count // 2}&_summary=count")
        assert found.json()["total"] == 1
        read = await client.get("/fhir/Group/all")
        assert len(read.json()["member"]) == count
    return f"stored and found by a member; {memory.end(MEMORY + 60 * len(content))}"


def parts(count: int) -> list[int]:
    whole, rest = divmod(count, PART)
    return [PART] * whole + ([rest] if rest else [])


async def binary(server: Running, count: int) -> str:
    """A content is streamed in and out; nobody holds it whole."""
    memory, digest, chance = Bounded(server), hashlib.sha256(), random.Random(26)
    block = chance.randbytes(PART)

    async def content() -> AsyncIterator[bytes]:
        for number, size in enumerate(parts(count)):
            part = (number.to_bytes(8, "big") + block)[:size]
            digest.update(part)
            yield part

    headers = {"content-type": "application/octet-stream"}
    async with httpx.AsyncClient(base_url=server.base, timeout=600) as client:
        put = await client.put("/Binary/large", content=content(), headers=headers)
        assert put.status_code == 201, put.text
        back, size = hashlib.sha256(), 0
        async with client.stream("GET", "/Binary/large", headers={"accept": "*/*"}) as answer:
            assert answer.status_code == 200
            async for part in answer.aiter_bytes():
                back.update(part)
                size += len(part)
    assert (size, back.digest()) == (count, digest.digest())
    return f"the same bytes back; {memory.end()}"
