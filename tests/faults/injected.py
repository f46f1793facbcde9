"""A server whose system calls fail, by strace: R03, R04."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

from tests.faults.check import check
from tests.faults.load import Load
from tests.faults.running import running

BROKEN = {
    "EIO of fdatasync, once": "fdatasync:error=EIO:when={n}",
    "EIO of fdatasync, ever": "fdatasync:error=EIO:when={n}+",
    "ENOSPC of pwrite64, some": "pwrite64:error=ENOSPC:when={n}+7",
    "EIO of pwrite64, once": "pwrite64:error=EIO:when={n}",
    "kill at fdatasync": "fdatasync:signal=SIGKILL:when={n}",
}


def strace_works() -> bool:
    """Whether strace is here and may trace."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(
        ["strace", "-e", "inject=getppid:error=EIO", "true"], capture_output=True, check=False
    )
    return done.returncode == 0


async def injected(folder: Path, fault: str, seed: int) -> dict[str, int]:
    """One run under load with a fault of a random number; then the check, without it."""
    chance = random.Random(seed)
    with running(folder, "--open") as server:
        load = Load(server.base, clients=4, seed=seed)
        await asyncio.sleep(0.3)
        calls = fault.format(n=chance.randint(1, 40))
        tracer = await asyncio.create_subprocess_exec(
            "strace",
            *("-f", "-q", "-o", os.devnull, "-e", f"trace={calls.partition(':')[0]}"),
            *("-e", f"inject={calls}", "-p", str(server.process.pid)),
        )
        await asyncio.sleep(1.5)
        if tracer.returncode is None:
            tracer.terminate()
        await tracer.wait()
        healed = len(load.told.ok)
        if server.process.poll() is None:
            await asyncio.sleep(0.5)
            assert len(load.told.ok) > healed, "it does not heal"
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        told = await load.stop()
    found = await check(folder, told)
    return found | {"refused": told.statuses.get(503, 0) + told.statuses.get(500, 0)}
