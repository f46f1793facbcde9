"""Several workers: takeover, restart, draining, revocation; R02, R22, R23, R25."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.app import opened
from fhir_server.config import Settings
from fhir_server.workers import supervisor
from fhir_server.workers.process import Work
from fhir_server.workers.supervisor import GaveUp, Inherited, Supervisor
from tests.faults.check import check
from tests.faults.load import Load
from tests.faults.running import ROOT, Running, alive, clean_environ, free_port, running, until


def more(load: Load, before: int) -> bool:
    """Has anything been acknowledged since then?"""
    return len(load.told.ok) > before


def gone(server: Running, pid: int) -> bool:
    return pid not in server.workers()


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["writer", "other"])
def test_r02_a_worker_is_killed_under_load(tmp_path: Path, whom: str) -> None:
    """Others serve, nothing acknowledged is lost, the worker comes back."""
    data = tmp_path / "data"

    async def kill(server: Running) -> None:
        load = Load(server.base, clients=8, seed=1)
        for _ in range(3):
            await asyncio.to_thread(until, lambda: len(server.workers()) == 3)
            await asyncio.sleep(0.5)
            writer = server.writer()
            pids = [pid for pid in server.workers() if (pid == writer) == (whom == "writer")]
            os.kill(pids[0], signal.SIGKILL)
            before = len(load.told.ok)
            await asyncio.to_thread(until, partial(more, load, before))
            assert await asyncio.to_thread(server.health) == 200
            await asyncio.to_thread(until, partial(gone, server, pids[0]))
        told = await load.stop()
        assert len(told.ok) > 50 and set(told.statuses) <= {200, 201, 204, 503}, told.statuses
        await asyncio.to_thread(until, lambda: len(server.workers()) == 3)
        server.stop()
        await check(data, told)

    with running(data, "--workers", "3", "--open") as server:
        asyncio.run(kill(server))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_r23_sigterm_drains(tmp_path: Path, workers: str) -> None:
    """Readiness goes first, requests go on, then all ends within 30 s and nothing is lost."""
    data = tmp_path / "data"

    async def drain(server: Running) -> None:
        load = Load(server.base, clients=6, seed=2)
        await asyncio.sleep(1)
        server.process.terminate()
        started = time.monotonic()
        await asyncio.to_thread(until, lambda: server.health() == 503, 4)
        before = len(load.told.ok)
        await asyncio.to_thread(until, partial(more, load, before), 4)
        code = await asyncio.to_thread(server.process.wait, 35)
        assert code == 0 and time.monotonic() - started < 30
        told = await load.stop()
        assert set(told.statuses) <= {200, 201, 204, 503}
        await check(data, told)

    with running(data, "--workers", workers, "--open", VEHR_LEAVE_SECONDS="4") as server:
        asyncio.run(drain(server))


@pytest.mark.slow
def test_r25_a_second_server_and_an_orphaned_one(tmp_path: Path) -> None:
    """A second server is refused with one line, also while only workers of a first are left."""
    data = tmp_path / "data"
    with running(data, "--workers", "2", "--open") as server:
        second = subprocess.run(
            [sys.executable, "-m", "fhir_server", "serve", "--data", str(data)],
            cwd=ROOT,
            env=clean_environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 2
        assert second.stderr == "vehr: another server is running on this data directory\n"
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        until(lambda: not any(map(alive, workers)))
    with running(data, "--open") as again:
        assert again.health() == 200


@pytest.mark.slow
def test_r22_a_revoked_token_is_refused_by_every_worker(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def issue() -> str:
        async with opened(Settings(data=data)) as domain:
            return await domain.tokens.issue(scope="system/*.cruds", minutes=5, client="test")

    async def revoke(token: str) -> None:
        async with opened(Settings(data=data)) as domain:
            assert await domain.tokens.revoke(token)

    def statuses(root: str, token: str) -> set[int]:
        """Of requests over connections of their own, which any of the workers takes."""
        headers = {"authorization": f"Bearer {token}"}
        return {httpx.get(f"{root}/fhir/Patient", headers=headers).status_code for _ in range(24)}

    with running(data, "--workers", "3") as server:
        token = asyncio.run(issue())
        assert statuses(server.root, token) == {200}
        asyncio.run(revoke(token))
        assert statuses(server.root, token) == {401}


@pytest.mark.slow
def test_jobs_of_a_killed_worker_end_exactly_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = {"VEHR_JOB_LEASE_SECONDS": "5", "VEHR_LEAVE_SECONDS": "29"}
    with running(data, "--workers", "2", "--open", **settings) as server:
        for number in range(30):
            httpx.post(f"{server.base}/Patient", json=patient(number), headers=JSON)
        links = []
        for _ in range(4):
            asked = httpx.get(f"{server.base}/Patient?_count=30", headers=ASYNC)
            assert asked.status_code == 202, asked.text
            links.append(asked.headers["content-location"])
        os.kill(server.workers()[0], signal.SIGKILL)
        for link in links:
            ended = _wait(link)
            assert ended.status_code == 200, ended.text
            assert len(_result(ended)["entry"]) == 30
        # Ctrl-C waits for no balancer to look elsewhere.
        assert server.stop(signal.SIGINT, 25) == 0


JSON = {"content-type": "application/fhir+json"}
ASYNC = {"prefer": "respond-async"}


def patient(number: int) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"value": str(number)}]}


def _wait(link: str) -> httpx.Response:
    """The answer of a job that has ended; a worker may die meanwhile."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(link)
        except httpx.TransportError:
            continue
        if answer.status_code not in (202, 429, 503):
            return answer
        time.sleep(0.2)
    raise AssertionError("the job does not end")


def _result(answer: httpx.Response) -> dict[str, Any]:
    """The search result inside the answer of a job."""
    bundle = answer.json()
    inner = bundle["entry"][0].get("resource") if bundle["type"] == "batch-response" else bundle
    found: dict[str, Any] = inner
    return found


class _Ended:
    """A worker process that has ended as soon as it is looked at."""

    exitcode, pid = -9, 1

    def __init__(self) -> None:
        read, self.write = os.pipe()
        self.sentinel = read
        os.close(self.write)


class _Line:
    def __init__(self, words: list[str]) -> None:
        self.words = words

    def poll(self) -> bool:
        return bool(self.words)

    def recv(self) -> str:
        return self.words.pop()

    def close(self) -> None: ...


class _Fake(Supervisor):
    """Workers that end at once, after they were ready or before."""

    started = 0
    said = (supervisor.READY,)

    def _start(self) -> None:
        self.started += 1
        self._workers.append(supervisor.Worker(_Ended(), _Line(list(self.said))))  # type: ignore[arg-type]


def test_restarts_have_a_budget() -> None:
    told: list[bool] = []
    fake = _Fake(Work(Settings(), ()), 1, Inherited(None), lambda: told.append(True))
    with pytest.raises(GaveUp, match="again and again"):
        fake.run()
    assert fake.started == 1 + supervisor.RESTARTS and told == [True]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_r23_what_cannot_be_opened_is_one_line(tmp_path: Path, workers: str) -> None:
    (tmp_path / "vehr.sqlite").write_bytes(b"no database" * 5000)
    words = [sys.executable, "-m", "fhir_server", "serve", "--workers", workers]
    done = subprocess.run(
        [*words, "--data", str(tmp_path), "--port", str(free_port())],
        cwd=ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "vehr: the database cannot be opened: file is not a database\n"


def test_a_worker_says_why_before_it_has_ended() -> None:
    """It is heard while it still lives; its end is seen later."""
    fake = _Fake(Work(Settings(), ()), 1, Inherited(None), lambda: None)
    fake.said = ("the database cannot be opened",)
    alive = [True]

    class Slow(_Ended):
        @property
        def exitcode(self) -> int | None:  # type: ignore[override]
            return None if alive else -9

    fake._workers.append(supervisor.Worker(Slow(), _Line(list(fake.said))))  # type: ignore[arg-type]
    fake._look()
    alive.clear()
    with pytest.raises(GaveUp, match="cannot be opened"):
        fake._look()


def test_a_worker_that_cannot_start_says_why() -> None:
    fake = _Fake(Work(Settings(), ()), 1, Inherited(None), lambda: None)
    fake.said = ("the database has schema version 99",)
    with pytest.raises(GaveUp, match="schema version 99"):
        fake.run()
    assert fake.started == 1


@pytest.mark.slow
def test_a_posted_parameter_is_known_to_every_worker(tmp_path: Path) -> None:
    data = tmp_path / "data"
    parameter = {
        "resourceType": "SearchParameter",
        "id": "shoe",
        "url": "http://example.org/shoe",
        "name": "shoe",
        "status": "active",
        "description": "Shoe size",
        "code": "shoe",
        "base": ["Patient"],
        "type": "string",
        "expression": "Patient.extension.where(url='http://example.org/shoe').value.ofType(string)",
    }
    worn = {"extension": [{"url": "http://example.org/shoe", "valueString": "41"}]}

    def answers(base: str) -> set[tuple[int, int]]:
        """(status, total) over connections of their own, which any of the workers takes."""
        found = set()
        for _ in range(24):
            answer = httpx.get(f"{base}/Patient?shoe=41", headers={"prefer": "handling=strict"})
            found.add((answer.status_code, answer.json().get("total", -1)))
        return found

    with running(data, "--workers", "3", "--open") as server:
        made = httpx.post(f"{server.base}/Patient", json=patient(1) | worn, headers=JSON)
        assert made.status_code == 201
        assert {status for status, _ in answers(server.base)} == {400}
        put = httpx.put(f"{server.base}/SearchParameter/shoe", json=parameter, headers=JSON)
        assert put.status_code == 201, put.text
        command = [sys.executable, "-m", "fhir_server", "reindex", "--data", str(data)]
        subprocess.run(command, cwd=ROOT, env=clean_environ(), check=True, capture_output=True)
        assert answers(server.base) == {(200, 1)}
        assert httpx.delete(f"{server.base}/SearchParameter/shoe").status_code == 204
        assert {status for status, _ in answers(server.base)} == {400}
