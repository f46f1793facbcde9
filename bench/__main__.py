"""``python -m bench``: the workloads on this server, or on any FHIR base.

    python -m bench                                   # starts vEHR and the echo itself
    python -m bench --base URL [--token T]            # a rival under the same load
    python -m bench --size 4 --json figures.json

The table gives requests per second, CPU per unit of the server process, and the ratio of
that CPU to the raw-ASGI echo and to the raw insert of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import workloads
from bench.baseline import raw_insert
from bench.client import Connection
from bench.workloads import Figure, Target


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[int]:
    """A server process of ours, ended by its pid."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


async def ready(base: str, path: str) -> None:
    """Wait until the server answers, at most 30 seconds."""
    for _ in range(300):
        try:
            await Connection(base, None).request("GET", path)
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{base} did not start")


async def echo_figure(total: int) -> Figure:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.baseline:echo", "--port", str(port)]
    with running([*command, "--log-level", "error", "--no-access-log"]) as pid:
        target = Target(f"http://127.0.0.1:{port}", pid=pid)
        await ready(target.base, "/")

        async def step(connection: Connection, number: int) -> None:
            await connection.request("GET", "/")

        return await workloads.measure(target, "raw ASGI echo", step, total, 16)


async def run(target: Target, size: int) -> list[Figure]:
    """Every workload that the target's CapabilityStatement offers."""
    figures = [
        await workloads.transaction(target, size),
        await workloads.create(target, 2000 * size, 16),
        await workloads.create(target, 200 * size, 1),
        await workloads.read(target, 5000 * size, 16),
        await workloads.search(target, 2000 * size, 16),
    ]
    metadata = (await Connection(target.base, target.token).request("GET", "/metadata")).json()
    offered = json.dumps(metadata["rest"][0])
    if '"everything"' in offered:
        figures.append(await workloads.everything(target, 50 * size))
    if '"predict"' in offered:
        figures.append(await workloads.predict(target, 300 * size))
    return figures


async def own(size: int, folder: Path) -> list[dict[str, Any]]:
    """vEHR, the echo and the raw insert side by side."""
    echo = await echo_figure(5000 * size)
    resources, wall, cpu = raw_insert(folder)
    insert = Figure("raw insert, groups of 16", resources, wall, cpu)
    port = free_port()
    command = [sys.executable, "-m", "fhir_server", "serve", "--open", "--port", str(port)]
    environment = {"VEHR_DATA": str(folder / "data")}
    environment["VEHR_BASE_URL"] = f"http://127.0.0.1:{port}"
    with running(command, environment) as pid:
        target = Target(f"http://127.0.0.1:{port}/fhir", pid=pid)
        await ready(f"http://127.0.0.1:{port}", "/health")
        figures = await run(target, size)
    rows = [figure.row() for figure in (echo, insert, *figures)]
    for row in rows:
        row["to_echo"] = round(row["cpu_us_per_unit"] / rows[0]["cpu_us_per_unit"], 2)
        row["to_insert"] = round(row["cpu_us_per_unit"] / rows[1]["cpu_us_per_unit"], 2)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    names = list(rows[-1])
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--base", help="FHIR base URL of a running server; default: start vEHR")
    parser.add_argument("--token", help="bearer token for --base")
    parser.add_argument("--pid", type=int, help="its server process here, for CPU figures")
    parser.add_argument("--size", type=int, default=1, help="multiplies every workload")
    parser.add_argument("--json", type=Path, help="write the rows as JSON too")
    arguments = parser.parse_args()
    if arguments.base:
        target = Target(arguments.base.rstrip("/"), arguments.token, arguments.pid)
        rows = [figure.row() for figure in asyncio.run(run(target, arguments.size))]
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = asyncio.run(own(arguments.size, Path(folder)))
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
