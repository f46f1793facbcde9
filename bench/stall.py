"""``python -m bench.stall``: how long small requests wait while something large goes on.

One client reads a small resource again and again, first alone, then beside transactions of
1,000 entries, then beside ``vehr load``. What is printed are the waits in milliseconds: the
longest tells how long the event loop was held up, plus what the machine adds when its cores
are taken, which the first row shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from bench.__main__ import free_port, ready, running, table
from bench.client import Connection
from bench.data import demo

ENTRIES = 1000


def large(number: int) -> bytes:
    """A transaction of new Observations."""
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": f"bench {number}"},
                "valueInteger": row,
            },
            "request": {"method": "POST", "url": "Observation"},
        }
        for row in range(ENTRIES)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return json.dumps(bundle).encode()


async def waits(base: str, path: str, beside: Awaitable[Any]) -> list[float]:
    """Milliseconds that each read took while ``beside`` went on."""
    connection, found = Connection(base, None), list[float]()
    await connection.request("GET", path)
    work = asyncio.ensure_future(beside)
    while not work.done():
        start = time.perf_counter()
        answer = await connection.request("GET", path)
        found.append((time.perf_counter() - start) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"unexpected {answer.status}")
        await asyncio.sleep(0.001)
    await work
    await connection.close()
    return found


async def transactions(base: str, count: int) -> None:
    connection = Connection(base, None)
    for body in [large(number) for number in range(count)]:
        answer = await connection.request("POST", "/", body)
        if answer.status != 200:
            raise RuntimeError(f"unexpected {answer.status}: {answer.body[:200]!r}")
    await connection.close()


async def loading(path: Path, environment: dict[str, str]) -> None:
    """``vehr load`` beside the running server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fhir_server", "load", str(path)),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise RuntimeError("vehr load failed")


def row(name: str, found: list[float]) -> dict[str, Any]:
    ranked = sorted(found)
    return {
        "beside": name,
        "reads": len(ranked),
        "median_ms": round(statistics.median(ranked), 2),
        "p99_ms": round(ranked[len(ranked) * 99 // 100], 1),
        "longest_ms": round(ranked[-1], 1),
    }


async def measured(folder: Path) -> list[dict[str, Any]]:
    port = free_port()
    environment = {"VEHR_DATA": str(folder / "data")}
    environment["VEHR_BASE_URL"] = f"http://127.0.0.1:{port}"
    source = folder / "import.ndjson"
    source.write_text("".join(f"{json.dumps(resource)}\n" for resource in demo().values()))
    command = [sys.executable, "-m", "fhir_server", "serve", "--open", "--port", str(port)]
    with running(command, environment):
        base = f"http://127.0.0.1:{port}/fhir"
        await ready(f"http://127.0.0.1:{port}", "/health")
        made = await Connection(base, None).request("POST", "/Basic", _BASIC)
        path = made.headers["location"].removeprefix(base).split("/_history")[0]
        return [
            row("nothing", await waits(base, path, asyncio.sleep(3))),
            row(f"transactions of {ENTRIES}", await waits(base, path, transactions(base, 10))),
            row("vehr load", await waits(base, path, loading(source, environment))),
        ]


_BASIC = b'{"resourceType":"Basic","code":{"text":"small"}}'


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(table(asyncio.run(measured(Path(directory)))))
