"""``python -m bench.stores``: a server on MongoDB beside one on SQLite, under the same load.

    python -m bench.stores [--wait 1] [--times 400]

Both are whole servers, asked over HTTP by one client and by 16, openly and with a token. Printed
is the CPU of the server process per request, the least of several rounds, and the ratio of the
stores. Between MongoDB and the server is the relay (``bench.relay``), which answers a read after
``--wait`` milliseconds. Each client pauses so long between its requests, so that a server wakes
for each, whatever its store. ``--mongodb`` names a database that is there; it should be empty.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.__main__ import free_port, ready, running
from bench.client import Connection, Step
from bench.data import observation
from bench.relay import relayed
from bench.workloads import Target, measure
from tests.mongodb import new_url

PATIENTS: Final = 3
OBSERVATIONS: Final = 192
ROUNDS: Final = 4
CLIENTS: Final = (1, 16)

Figures = dict[str, float]
"""Workload -> microseconds of CPU per request."""


def token(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "fhir_server", "token", "--client", "bench"]
    command += ["--scope", "system/*.cruds", "--minutes", "60"]
    whole = {**os.environ, **environment}
    return subprocess.run(command, env=whole, check=True, capture_output=True, text=True).stdout


class Bench:
    """One store. ``pause``: seconds that a client waits before each request."""

    def __init__(self, environment: dict[str, str], pause: float, times: int) -> None:
        self._environment = environment
        self._pause = pause
        self._times = times
        self._patients: list[str] = []
        self._observations: list[str] = []
        self.figures: Figures = {}

    async def run(self) -> Figures:
        await self._serving(["--open"], self._open)
        await self._serving([], self._secured)
        return self.figures

    async def _serving(self, options: list[str], work: Callable[[Target], Awaitable[None]]) -> None:
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        environment = {**self._environment, "VEHR_BASE_URL": base}
        command = [sys.executable, "-m", "fhir_server", "serve", "--port", str(port), *options]
        with running(command, environment) as pid:
            await ready(base, "/health")
            bearer = None if options else token(environment).strip()
            await work(Target(f"{base}/fhir", bearer, pid))

    async def _open(self, target: Target) -> None:
        connection = Connection(target.base, None)
        for number in range(PATIENTS + OBSERVATIONS):
            if number < PATIENTS:
                place = "/Patient"
                body = b'{"resourceType": "Patient", "birthDate": "1980"}'
            else:
                place = "/Observation"
                body = observation(self._patients[number % PATIENTS], number)
            answer = await connection.request("POST", place, body)
            if answer.status != 201:
                raise RuntimeError(f"unexpected {answer.status}: {answer.body[:300]!r}")
            made = place[1:] + "/" + answer.headers["location"].split("/")[-3]
            (self._patients if number < PATIENTS else self._observations).append(made)
        await self._measure(target, "read", self._read)
        await self._measure(target, "search, page of 20", self._search)

    async def _secured(self, target: Target) -> None:
        await self._measure(target, "read, token", self._read)
        await self._measure(target, "search, token", self._search)

    def _read(self, number: int) -> str:
        return "/" + self._observations[number * 7919 % len(self._observations)]

    def _search(self, number: int) -> str:
        patient = self._patients[number % PATIENTS]
        return f"/Observation?patient={patient}&_sort=-date&_count=20"

    async def _measure(self, target: Target, name: str, url: Callable[[int], str]) -> None:
        async def step(connection: Connection, number: int) -> None:
            await asyncio.sleep(self._pause)
            answer = await connection.request("GET", url(number))
            if answer.status != 200:
                raise RuntimeError(f"unexpected {answer.status}: {answer.body[:300]!r}")

        some: Step = step
        for clients in CLIENTS:
            await measure(target, name, some, max(self._times // 4, OBSERVATIONS), clients)
            figures = [
                await measure(target, name, some, self._times, clients) for _ in range(ROUNDS)
            ]
            least = min(figure.cpu for figure in figures) / self._times * 1e6
            self.figures[f"{name}, {clients} at once"] = least


async def both(url: str, wait: float, times: int) -> tuple[Figures, Figures]:
    with TemporaryDirectory() as folder:
        here = {"VEHR_DATA": str(Path(folder) / "sqlite"), "VEHR_STORE": "sqlite:"}
        sqlite = await Bench(here, wait / 1000, times).run()
        with relayed(url, wait) as place:
            there = {"VEHR_DATA": str(Path(folder) / "mongo"), "VEHR_STORE": place}
            return sqlite, await Bench(there, wait / 1000, times).run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.stores", description=__doc__)
    parser.add_argument("--wait", type=float, default=1.0, help="milliseconds of a read")
    parser.add_argument("--times", type=int, default=1000, help="requests of a round")
    parser.add_argument("--mongodb", help="URL of a database, instead of the stand-in")
    given = parser.parse_args()
    sqlite, mongo = asyncio.run(both(given.mongodb or new_url(), given.wait, given.times))
    for name, micros in sqlite.items():
        there = mongo[name]
        print(f"{name:34} {micros:9.1f} us   mongo {there:9.1f} us {there / micros:6.2f}")


if __name__ == "__main__":
    main()
