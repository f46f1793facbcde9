"""An S3-compatible object store for tests: the one of ``VEHR_TEST_S3`` (an ``s3://`` URL as
``VEHR_BLOBS`` takes it), else moto's server, started once per test process on a loopback port.
Each test gets a prefix of its own. Moto keeps its objects in memory and checks no signatures.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fhir_server.config_values import Bucket, as_bucket

_numbers = count(1)
OWN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


def start(folder: Path, port: int = 0) -> tuple[subprocess.Popen[bytes], int]:
    """A server, and its port."""
    out = folder / "moto.log"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=file,
            stderr=file,
        )
    for _ in range(600):
        found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", out.read_text())
        if found:
            return process, int(found[1])
        time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"moto does not start: {out.read_text()}")


@cache
def server() -> Bucket:
    """The bucket of the server."""
    given = os.environ.get("VEHR_TEST_S3")
    if given:
        return as_bucket(given)
    for name in ("moto", "flask", "botocore"):
        if importlib.util.find_spec(name) is None:
            message = "no S3 server: install the dev extra, or set VEHR_TEST_S3"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
    os.environ.update(OWN)
    folder = tempfile.TemporaryDirectory(prefix="vehr-s3-")
    process, port = start(Path(folder.name))

    def stop() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(stop)
    made = Bucket("vehr-test", endpoint=f"http://127.0.0.1:{port}")
    create(made)
    return made


def create(made: Bucket) -> None:
    from fhir_server.store.s3 import connect

    connect(made).create_bucket(Bucket=made.name)


def new_bucket() -> Bucket:
    """A prefix that does not exist yet."""
    return replace(server(), prefix=f"{os.getpid()}/{next(_numbers)}/")


def url(made: Bucket) -> str:
    """As ``VEHR_BLOBS``."""
    where = f"s3://{made.name}/{made.prefix}".rstrip("/")
    return f"{where}?endpoint={made.endpoint}" if made.endpoint else where


class Line:
    """A TCP proxy on this loop to the server of a bucket. ``down``: nobody answers;
    ``cut_after``: bytes sent in all, after which it is down; ``silent``: nothing passes."""

    def __init__(self, made: Bucket) -> None:
        parts = urlsplit(made.endpoint)
        self._to = parts.hostname, parts.port
        self._bucket = made
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.down = False
        self.silent = False
        self.cut_after: int | None = None
        self.calls = 0

    async def start(self) -> Bucket:
        """The bucket as it is reached by this line."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return replace(self._bucket, endpoint=f"http://127.0.0.1:{port}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        if self.down:
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_connection(*self._to)
        self._writers += [writer, up_writer]
        back = asyncio.create_task(self._pass(up_reader, writer, counted=False))
        with suppress(OSError):
            await self._pass(reader, up_writer, counted=True)
        back.cancel()
        writer.close()
        up_writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        while data := await reader.read(65536):
            if counted and self.cut_after is not None:
                self.cut_after -= len(data)
                if self.cut_after <= 0:
                    self.down, self.cut_after = True, None
                    self.hang_up()
                    return
            while self.silent:
                await asyncio.sleep(0.01)
            writer.write(data)
            await writer.drain()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers = []

    async def stop(self) -> None:
        self.silent = False
        self.hang_up()
        if self._server is not None:
            self._server.close()
