"""A server that is killed has recorded every request that it answered."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fhir_server.app import opened
from fhir_server.cli import app
from fhir_server.config import Settings
from tests.audit.trail import entries, observation, patient
from tests.serving import Json

READS = 40


async def _token(data: Path) -> str:
    async with opened(replace(Settings(), data=data)) as domain:
        return await domain.tokens.issue(scope="system/*.cruds", minutes=60, client="killed")


def _started(data: Path, port: int, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fhir_server", "serve", "--port", str(port), *more]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VEHR_")}
    process = subprocess.Popen(
        [*command, "--data", str(data)], env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError("the server did not start")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def told_of(data: Path) -> list[Json]:
    """Lines of requests."""
    return [line for line in entries(data) if line.get("request")]


def test_what_was_answered_is_recorded(tmp_path: Path) -> None:
    data, port = tmp_path / "data", _free_port()
    server = _started(data, port)
    try:
        headers = {"authorization": f"Bearer {asyncio.run(_token(data))}"}
        base = f"http://127.0.0.1:{port}/fhir"
        with httpx.Client(headers=headers) as client:
            made = client.post(f"{base}/Patient", json=patient()).json()["id"]
            for _ in range(READS):
                assert client.get(f"{base}/Patient/{made}").status_code == 200
            assert client.post(f"{base}/Observation", json=observation(made)).status_code == 201
    finally:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    answered = told_of(data)
    assert [line["interaction"] for line in answered] == ["create", *["read"] * READS, "create"]
    assert all(line["patients"] == [made] for line in answered)

    def run(*arguments: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["audit", *arguments, "--data", str(data)])
        return found.exit_code, found.output

    code, told = run("verify")
    assert code == 0 and "is not closed" in told and "2 writes" in told, told
    code, told = run("show", "--patient", made, "--user", "killed")
    assert code == 0 and len(told.splitlines()) == READS + 2
    assert f"killed  read  Patient/{made}/_history/1  200  Patient/{made}" in told
    code, told = run("show", "--events", "--since", "2000-01-01")
    assert told.count('"resourceType":"AuditEvent"') == READS + 2 + 1  # the start
    [path] = (data / "audit").glob("*.ndjson")
    path.write_bytes(path.read_bytes().replace(b'"status":201', b'"status":404', 1))
    code, told = run("verify")
    assert code == 1 and "line 3 or the one before it was changed" in told


@pytest.mark.slow
def test_several_workers_are_killed(tmp_path: Path) -> None:
    """Each has a chain; the next server finds every answer of all of them."""
    data, port = tmp_path / "data", _free_port()
    token = asyncio.run(_token(data))
    headers = {"authorization": f"Bearer {token}"}
    server = _started(data, port, "--workers", "2")
    base = f"http://127.0.0.1:{port}/fhir"
    answered = 0
    try:
        made = httpx.post(f"{base}/Patient", json=patient(), headers=headers).json()["id"]
        for n in range(READS):
            # A connection of its own each, so that both workers get some.
            if n % 4:
                answer = httpx.get(f"{base}/Patient/{made}", headers=headers)
            else:
                answer = httpx.post(f"{base}/Observation", json=observation(made), headers=headers)
            answered += answer.is_success
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert answered == READS
    assert len(told_of(data)) == READS + 1
    verified = CliRunner().invoke(app, ["audit", "verify", "--data", str(data)])
    assert verified.exit_code == 0, verified.output
    server = _started(data, port, "--workers", "2")
    try:
        # Both workers are asked: they share the index.
        for _ in range(4):
            url = f"{base}/AuditEvent?patient={made}&subtype=read,create&_summary=count"
            found = httpx.get(url, headers=headers, timeout=20)
            assert found.json()["total"] == READS + 1, found.text
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    verified = CliRunner().invoke(app, ["audit", "verify", "--data", str(data)])
    assert verified.exit_code == 0, verified.output
