"""R08: registers and histories are linearizable, also while the writer is killed; pages of one
search and ``$everything`` see one instant.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from bench.client import Connection
from tests.faults.linear import Contradiction, Registers, Seen, explain, history
from tests.faults.running import Running, running

pytestmark = pytest.mark.slow


Kill = Callable[[], Awaitable[None]]
"""Kills the writer, if there is one."""


async def registers(base: str, seconds: float, kills: int, seed: int, kill: Kill) -> dict[str, int]:
    made, stop = Registers(base, 3, seed), asyncio.Event()
    clients = [asyncio.create_task(made.client(number, stop)) for number in range(8)]
    for _ in range(kills):
        await asyncio.sleep(seconds / (kills + 1))
        await kill()
    await asyncio.sleep(seconds / (kills + 1))
    stop.set()
    await asyncio.gather(*clients)
    return await made.check()


def test_r08_registers(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--open", "--workers", "3") as server:

        async def kill() -> None:
            writer = server.writer()
            if writer is not None:
                os.kill(writer, signal.SIGKILL)

        found = asyncio.run(registers(server.base, 4, kills=1, seed=8, kill=kill))
    assert found["versions"] > 20, found


def seen(called: float, returned: float, version: int, *, wrote: bool = False) -> Seen:
    return Seen(called, returned, version, f"v{version}" if version else "", wrote)


RIGHT = [
    seen(0, 2, 1, wrote=True),
    seen(1, 3, 0),
    seen(1, 9, 3, wrote=True),
    seen(2.5, 4, 2, wrote=True),
    seen(5, 6, 2),
    seen(7, 8, 3),
]
WRONG = {
    "a stale read": [*RIGHT, seen(8.5, 9, 2)],
    "a read of nothing after a write": [*RIGHT, seen(5, 6, 0)],
    "a write that goes back": [*RIGHT, seen(10, 11, 1, wrote=True)],
    "one version twice": [*RIGHT, seen(0, 9, 3, wrote=True)],
    "a value of nobody": [*RIGHT, seen(10, 11, 4)],
    "two values": [*RIGHT, Seen(0, 9, 2, "other", wrote=False)],
}


def test_the_checker() -> None:
    explain(RIGHT)
    explain([*RIGHT, seen(10, 11, 4)], frozenset({"v4"}))
    for name, wrong in WRONG.items():
        with pytest.raises(Contradiction):
            explain(wrong)
            pytest.fail(name)
    history([(3, "v3"), (2, "v2"), (1, "v1")], RIGHT)
    for entries in ([(3, "v3"), (1, "v1")], [(3, "x"), (2, "v2"), (1, "v1")]):
        with pytest.raises(Contradiction):
            history(entries, RIGHT)


REVERSE = "Patient?_id=p&_revinclude=Observation:subject"
PAIRS = 12
"""Observations of one patient that are always written together, with one number."""


def bundle(number: int) -> bytes:
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "id": f"o{place}",
                "status": "final",
                "code": {"text": str(number)},
                "subject": {"reference": "Patient/p"},
            },
            "request": {"method": "PUT", "url": f"Observation/o{place}"},
        }
        for place in range(PAIRS)
    ]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


async def snapshots(server: Running, rounds: int) -> None:
    """Transactions put one number into all; whoever looks sees one number, never two."""
    stop, writer, reader = asyncio.Event(), Connection(server.base, None), httpx.AsyncClient()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            answer = await writer.request("POST", "", bundle(number))
            assert answer.status == 200, answer.body

    put = httpx.put(f"{server.base}/Patient/p", json={"resourceType": "Patient", "id": "p"})
    assert put.status_code == 201
    writing = asyncio.create_task(write())
    while (await reader.get(f"{server.base}/Observation")).json()["total"] < PAIRS:
        await asyncio.sleep(0.05)
    for _ in range(rounds):
        for url in ("Observation?_count=100", REVERSE, "Patient/p/$everything"):
            found = (await reader.get(f"{server.base}/{url}")).json()["entry"]
            numbers = {
                entry["resource"]["code"]["text"]
                for entry in found
                if entry["resource"]["resourceType"] == "Observation"
            }
            assert len(numbers) == 1, f"{url} shows parts of {sorted(numbers)}"
        numbers, url = set(), f"{server.base}/Patient/p/$everything?_count=5"
        while url:
            page = (await reader.get(url)).json()
            numbers |= {
                entry["resource"]["code"]["text"]
                for entry in page.get("entry", ())
                if entry["resource"]["resourceType"] == "Observation"
            }
            url = next((x["url"] for x in page["link"] if x["relation"] == "next"), "")
        assert len(numbers) == 1, f"the pages of $everything show {sorted(numbers)}"
    stop.set()
    await writing
    await reader.aclose()
    await writer.close()


def test_r08_one_instant(tmp_path: Path) -> None:
    with running(tmp_path / "d", "--open", "--workers", "2") as server:
        asyncio.run(snapshots(server, rounds=4))
