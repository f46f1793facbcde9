"""Very many connections, many of them busy, and what that costs the server: R12."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.client import Connection
from tests.faults.load import LOST, patient
from tests.faults.running import Running

AT_ONCE = 100
"""Connections that are being made at a time."""
EACH = 100_000
"""Bytes of memory that a connection may cost."""


@dataclass(slots=True)
class Sample:
    """What the server holds: bytes of memory, open files, bytes of the log of the database."""

    memory: int
    files: int
    log: int


@dataclass(slots=True)
class Crowd:
    """``health``: seconds that /health took, each on a connection of its own."""

    statuses: Counter[int] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    def slowest(self, share: float) -> float:
        """Seconds within which this share of the requests was answered."""
        return sorted(self.times)[min(int(len(self.times) * share), len(self.times) - 1)]


def sample(server: Running) -> Sample:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    log = server.data / "vehr.sqlite-wal"
    return Sample(
        memory=int(memory.split()[1]) * 1024,
        files=len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())),
        log=log.stat().st_size if log.exists() else 0,
    )


def room_for(count: int) -> int:
    """So many connections may this process have, at most ``count``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(count, most * 3 // 4 - 200)


async def crowded(server: Running, count: int, active: int, seconds: float, seed: int) -> Crowd:
    """``count`` connections that have each been used and stay, ``active`` of them busy."""
    crowd, chance, stop = Crowd(), random.Random(seed), asyncio.Event()
    crowd.samples.append(sample(server))
    watching = asyncio.create_task(watch(server, crowd, stop))
    for start in range(0, count, AT_ONCE):
        made = [Connection(server.base, None) for _ in range(min(AT_ONCE, count - start))]
        await asyncio.gather(*(used(one, crowd) for one in made))
        crowd.connections += made
    busy = [
        asyncio.create_task(work(one, crowd, f"{seed}-{number}", chance, stop))
        for number, one in enumerate(crowd.connections[:active])
    ]
    await asyncio.sleep(seconds)
    stop.set()
    await asyncio.gather(*busy, watching)
    crowd.samples.append(sample(server))
    return crowd


async def used(connection: Connection, crowd: Crowd) -> None:
    answer = await connection.request("GET", "/Patient/nobody")
    crowd.statuses[answer.status] += 1


async def work(
    connection: Connection, crowd: Crowd, name: str, chance: random.Random, stop: asyncio.Event
) -> None:
    """Writes a resource of its own now and then, and reads it."""
    path, body = f"/Patient/{name}", json.dumps(patient(name, name)).encode()
    await asyncio.sleep(chance.random())
    while not stop.is_set():
        began = time.perf_counter()
        wrote = chance.random() < 0.2
        answer = await connection.request(*(("PUT", path, body) if wrote else ("GET", path)))
        crowd.times.append(time.perf_counter() - began)
        crowd.statuses[answer.status] += 1
        if answer.status in (429, 503):
            assert "retry-after" in answer.headers, answer
        await asyncio.sleep(chance.uniform(0, 1) if answer.status != 503 else 1)


async def watch(server: Running, crowd: Crowd, stop: asyncio.Event) -> None:
    while not stop.is_set():
        began = time.perf_counter()
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.get(f"{server.root}/health")
        assert answer.status_code == 200, answer.text
        crowd.health.append(time.perf_counter() - began)
        crowd.samples.append(sample(server))
        await asyncio.sleep(0.5)


async def left(crowd: Crowd) -> None:
    for connection in crowd.connections:
        try:
            await connection.close()
        except LOST:
            continue


def well(crowd: Crowd) -> None:
    """Only what is refused early, and memory as the connections need it."""
    assert set(crowd.statuses) <= {200, 201, 404, 429, 503}, crowd.statuses
    most = max(one.memory for one in crowd.samples)
    allowed = crowd.samples[0].memory + EACH * len(crowd.connections) + 100_000_000
    assert most < allowed, f"{most:,} bytes with {len(crowd.connections):,} connections"


def flat(samples: list[Sample]) -> None:
    """Nothing rises for as long as it runs: the last third against the one before."""
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]
    for name, slack in (("memory", 40_000_000), ("files", 20), ("log", 20_000_000)):
        first = sorted(getattr(one, name) for one in before)[third // 2]
        last = sorted(getattr(one, name) for one in after)[third // 2]
        assert last <= first * 1.1 + slack, f"{name} rises: {first:,} to {last:,}"
