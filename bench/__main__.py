"""``python -m bench``: the workloads on this server, or on any FHIR base.

    python -m bench                                   # starts vEHR and the echo itself
    python -m bench --rival URL --rival-pid PID       # and puts the same load on another server
    python -m bench --base URL [--token T]            # that server alone
    python -m bench --size 4 --json figures.json

The table gives requests per second, CPU per unit of the server process, and the ratio of
that CPU to the raw-ASGI echo and to the raw insert of the same run; with a rival, how much more
CPU that needs. Every request bears a token unless vEHR is measured ``--open``.
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
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

from bench import workloads
from bench.baseline import raw_insert
from bench.client import Connection
from bench.workloads import Figure, Target

Row: TypeAlias = dict[str, Any]


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
        await workloads.create_patients(target, 1000 * size, 16),
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


async def own(size: int, folder: Path, *, open_: bool, rival: Target | None) -> list[Row]:
    """vEHR, the echo and the raw insert side by side, and a rival after them."""
    echo = await echo_figure(5000 * size)
    resources, wall, cpu = raw_insert(folder)
    insert = Figure("raw insert, groups of 16", resources, wall, cpu)
    port = free_port()
    command = [sys.executable, "-m", "fhir_server"]
    environment = {"VEHR_DATA": str(folder / "data")}
    environment["VEHR_BASE_URL"] = f"http://127.0.0.1:{port}"
    serve = [*command, "serve", *(["--open"] if open_ else []), "--port", str(port)]
    with running(serve, environment) as pid:
        await ready(f"http://127.0.0.1:{port}", "/health")
        token = None if open_ else issued([*command, "token"], environment)
        figures = await run(Target(f"http://127.0.0.1:{port}/fhir", token, pid), size)
    rows = [figure.row() for figure in (echo, insert, *figures)]
    for row in rows:
        row["to_echo"] = round(row["cpu_us_per_unit"] / rows[0]["cpu_us_per_unit"], 2)
        row["to_insert"] = round(row["cpu_us_per_unit"] / rows[1]["cpu_us_per_unit"], 2)
    if rival is not None:
        compare(rows, await run(rival, size))
    return rows


def issued(command: list[str], environment: dict[str, str]) -> str:
    """A token for the whole of the record."""
    found = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return found.stdout.split()[-1]


def compare(rows: list[Row], rival: list[Figure]) -> None:
    """Adds what the same workload is with a rival, and how many times our CPU that is."""
    theirs = {figure.name: figure.row() for figure in rival}
    for row in rows:
        other = theirs.get(row["workload"], {})
        row["rival_per_second"] = other.get("per_second", "")
        row["rival_cpu_us"] = other.get("cpu_us_per_unit", "")
        row["rival_to_us"] = (
            round(other["cpu_us_per_unit"] / row["cpu_us_per_unit"], 1) if other else ""
        )


def table(rows: list[Row]) -> str:
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
    parser.add_argument("--open", action="store_true", help="vEHR without tokens")
    parser.add_argument("--rival", help="FHIR base URL of a server that gets the same load")
    parser.add_argument("--rival-token", help="bearer token for --rival")
    parser.add_argument("--rival-pid", type=int, help="its server process here")
    parser.add_argument(
        "--seconds", type=float, default=inf, help="most for each workload of another server"
    )
    parser.add_argument("--size", type=int, default=1, help="multiplies every workload")
    parser.add_argument("--json", type=Path, help="write the rows as JSON too")
    given = parser.parse_args()
    if given.base:
        target = Target(given.base.rstrip("/"), given.token, given.pid, given.seconds)
        rows = [figure.row() for figure in asyncio.run(run(target, given.size))]
    else:
        rival = None
        if given.rival:
            base = given.rival.rstrip("/")
            rival = Target(base, given.rival_token, given.rival_pid, given.seconds)
        with tempfile.TemporaryDirectory() as folder:
            rows = asyncio.run(own(given.size, Path(folder), open_=given.open, rival=rival))
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
