"""Kill a server under load, start it again, and so on; then the ledger check."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.check import check
from tests.faults.load import Load
from tests.faults.running import ROOT, clean_environ, files, free_port

START_SECONDS = 600


class Launcher:
    """The process of ``launcher.py``."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.base = f"http://127.0.0.1:{port}/fhir"

    async def start(self, point: str = "") -> int:
        """A server that is ready; its pid. It may have ended by itself before (``point``)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{point}\n".encode())
        line = await self._line()
        while not line.startswith("pid "):  # what an earlier process said at its end
            assert self._process.returncode is None, "the launcher has ended"
            line = await self._line()
        pid = int(line.split()[1])
        while alive(pid) and (await self._line(pid)) != "ready":
            continue
        return pid

    async def _line(self, pid: int = 0) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        pending = asyncio.ensure_future(self._process.stdout.readline())
        while not pending.done():
            await asyncio.wait({pending}, timeout=0.2)
            assert time.monotonic() < deadline, "the server does not start"
        return pending.result().decode().strip()

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pid: int, seconds: float = 20) -> bool:
    """Whether the process ended by itself in time; it is killed if it did not."""
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return False
        await asyncio.sleep(0.005)
    return True


@asynccontextmanager
async def launched(folder: Path, **environ: str) -> AsyncIterator[Launcher]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.faults.launcher", str(folder), str(port)),
        cwd=ROOT,
        env=clean_environ(**environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    launcher = Launcher(process, port)
    try:
        yield launcher
    finally:
        await launcher.end()


class Workers:
    """Several processes of one launcher, on one socket and one data directory."""

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self._launcher = launcher
        self._lock = str(folder / "writer.lock")
        self.pids: list[int] = []

    async def add(self) -> None:
        self.pids.append(await self._launcher.start())

    def writer(self) -> int | None:
        """The one that holds the lock of the writer; None while there is none."""
        return next((pid for pid in self.pids if self._lock in files(pid)), None)

    async def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.pids.remove(pid)
        await gone(pid)


@asynccontextmanager
async def working(folder: Path, count: int) -> AsyncIterator[tuple[str, Workers]]:
    """Base URL and processes, which are killed at the end."""
    async with launched(folder) as launcher:
        workers = Workers(launcher, folder)
        for _ in range(count):
            await workers.add()
        try:
            yield launcher.base, workers
        finally:
            for pid in (*workers.pids,):
                await workers.kill(pid)


async def kill_among(folder: Path, kills: int, seed: int, clients: int = 6) -> dict[str, int]:
    """``kills`` times one of three processes under load, half of the times the writer; the
    others acknowledge more before it is started again. Then the check of everything.
    """
    chance, writers = random.Random(seed), 0
    async with working(folder, 3) as (base, workers):
        load = Load(base, clients, seed)
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.01, 0.3))
            writer, other = workers.writer(), chance.choice(workers.pids)
            victim = writer if writer is not None and chance.random() < 0.5 else other
            writers += victim == writer
            await workers.kill(victim)
            before = len(load.told.ok)
            async with asyncio.timeout(120):
                while len(load.told.ok) == before:
                    await asyncio.sleep(0.01)
            await workers.add()
        told = await load.stop()
    assert set(told.statuses) <= {200, 201, 204, 503}, (told.statuses, told.failed)
    return await check(folder, told) | {"kills": kills, "writers": writers}


async def kill_at_random(folder: Path, kills: int, seed: int, clients: int = 6) -> dict[str, int]:
    """``kills`` times SIGKILL at a random instant under load, then the check of everything."""
    chance = random.Random(seed)
    async with launched(folder) as launcher:
        pid = await launcher.start()
        load = Load(launcher.base, clients, seed)
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.01, 0.3))
            os.kill(pid, signal.SIGKILL)
            await gone(pid)
            pid = await launcher.start()
        told = await load.stop()
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    return await check(folder, told) | {"kills": kills}


async def kill_at_point(folder: Path, point: str, kills: int, seed: int) -> dict[str, int]:
    """The server kills itself at a named instant; the count differs each time."""
    chance = random.Random(seed)
    struck = 0
    async with launched(folder) as launcher:
        load: Load | None = None
        for _ in range(kills):
            pid = await launcher.start(f"{point} {chance.randint(1, 12)}")
            load = load or Load(launcher.base, 6, seed)
            struck += await gone(pid)
        pid = await launcher.start()
        assert load is not None
        told = await load.stop()
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    assert struck == kills, f"{point} was reached {struck} of {kills} times"
    return await check(folder, told) | {"kills": struck}
