"""A MongoDB for tests: the one of ``VEHR_TEST_MONGODB``, else SecantusDB, started once per
test process on a loopback port. Each test gets a database of its own.

SecantusDB speaks MongoDB's protocol over WiredTiger, with sessions and transactions; it is
a stand-in for function, not for speed, and differs where ``STAND_IN`` says.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

_numbers = count(1)
STAND_IN = {
    "snapshot sessions": "reads outside a transaction are not held at one point in time",
}
"""What SecantusDB lacks; tests that need it run only with ``VEHR_TEST_MONGODB``."""


def real() -> bool:
    return "VEHR_TEST_MONGODB" in os.environ


def needs(ability: str) -> None:
    """Skips a test on the stand-in for a reason that is in the list."""
    if not real():
        pytest.skip(f"SecantusDB: {STAND_IN[ability]}")


def start(folder: Path, port: int = 0, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """A server over the data in ``folder``, and its port."""
    command = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(port)]
    folder.mkdir(exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--storage-path", str(folder / "db"), *options], stdout=out, stderr=out
        )
    for _ in range(300):
        found = re.search(r"listening on [\d.]+:(\d+)", log.read_text())
        if found:
            return process, int(found[1])
        time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"SecantusDB does not start: {log.read_text()}")


@cache
def server() -> str:
    """The URL of the server, without a database."""
    given = os.environ.get("VEHR_TEST_MONGODB")
    if given:
        return given
    if importlib.util.find_spec("secantus") is None:
        message = "no MongoDB: install the dev extra, or set VEHR_TEST_MONGODB"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tempfile.TemporaryDirectory(prefix="vehr-mongo-")
    process, port = start(Path(folder.name))

    def stop() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(stop)
    return f"mongodb://127.0.0.1:{port}/"


def new_url() -> str:
    """The URL of a database that does not exist yet."""
    parts = urlsplit(server())
    name = f"/vehr_test_{os.getpid()}_{next(_numbers)}"
    return urlunsplit(parts._replace(path=name))
