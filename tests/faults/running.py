"""A server in processes of its own, as an operator starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def clean_environ(**environ: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEHR_")}
    return kept | environ


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits; AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Running:
    """``vehr serve`` on a data directory."""

    def __init__(self, data: Path, port: int, process: subprocess.Popen[str]) -> None:
        self.data = data
        self.process = process
        self.root = f"http://127.0.0.1:{port}"
        self.base = self.root + "/fhir"
        self.port = port

    def health(self) -> int:
        """The status of /health; 0 where nobody answers."""
        try:
            return httpx.get(self.root + "/health", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def health_text(self) -> str:
        return httpx.get(self.root + "/health", timeout=5).text

    def workers(self) -> list[int]:
        """The pids of the workers, lowest first."""
        return [pid for pid in children(self.process.pid) if "--multiprocessing-fork" in words(pid)]

    def writer(self) -> int | None:
        """The pid of the worker that is the writer."""
        lock = str(self.data / "writer.lock")
        return next((pid for pid in self.workers() if lock in files(pid)), None)

    def stop(self, how: int = signal.SIGTERM, seconds: float = 35) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)


def children(pid: int) -> list[int]:
    try:
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def files(pid: int) -> set[str]:
    """The files that a process has open."""
    found = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.add(os.readlink(link))
            except OSError:
                continue
    except OSError:
        return found
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def running(
    data: Path,
    *arguments: str,
    log_file: Path | None = None,
    inside: tuple[str, ...] = (),
    **environ: str,
) -> Iterator[Running]:
    """Ready when it is given; ended, if it has not, when it is given back. ``inside``: words
    of a command that becomes the server.
    """
    port = free_port()
    command = [*inside, sys.executable, "-m", "fhir_server", "serve", "--port", str(port)]
    log_file = log_file or data.parent / f"{data.name}.log"
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [*command, "--data", str(data), *arguments],
            cwd=ROOT,
            env=clean_environ(**environ),
            stdout=log,
            stderr=log,
            text=True,
        )
    server = Running(data, port, process)
    pids: list[int] = []
    try:
        until(lambda: process.poll() is not None or server.health() == 200, 180)
        assert process.poll() is None, log_file.read_text()
        yield server
    finally:
        pids = children(process.pid)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(35)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)
