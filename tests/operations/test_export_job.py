"""The job of an export: killed at every step it goes on, and what it makes is the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.access.session import Session
from fhir_server.app import exports
from fhir_server.interactions.search import Searching
from fhir_server.jobs.context import JobContext
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import Asked, Job, Owner
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Json
from operations.bulk import walking
from operations.bulk.walking import export_body
from operations.bulk.wanted import Wanted
from tests.serving import Server, served

HERE = Path(__file__).parents[2]


class Killed(BaseException):
    """Nothing of the process goes on."""


class Short(JobContext):
    """Dies before or after its n-th checkpoint."""

    left = 1_000_000
    after = False

    async def checkpoint(self, state: Json) -> None:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        await super().checkpoint(state)
        if self.left < 0:
            raise Killed


class Bench:
    """A queue over the store of a server, with a clock of its own. Nobody else is at work: the
    runner of the server looks into the same ledger, and has no body for jobs of this kind."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.clock = time.time_ns() // 1000
        self.session: Session = server.domain.system_session("test")
        self.queue = Queue(server.domain.store.ledger, JobFiles(folder), lambda: self.clock)
        searching: Searching = server.domain.searching
        self.body = export_body(exports(searching), lines=2)

    async def submit(self, **wanted: Any) -> Job:
        position = await self.session.position()
        asked = Wanted("system", as_of=position, moment=self.clock, **wanted)
        return await self.queue.submit(
            Asked("bench-export", Owner("t"), "http://b", asked.to_json())
        )

    async def run(self, job: Job, left: int, after: bool) -> bool:
        """False: it was killed, and its lease ran out."""
        claimed = await self.queue.claim(job.id)
        assert claimed is not None and claimed.lease is not None
        context = Short(self.queue, claimed, self.session)
        context.left, context.after = left, after
        try:
            await self.body(context)
        except Killed:
            self.clock += 60_000_000
            return False
        holder = claimed.lease.holder
        await self.queue.end(job.id, "done", holder=holder, result=context.settled)
        return True

    async def made(self, job: Job) -> dict[str, bytes]:
        ended = await self.queue.get(job.id)
        assert ended is not None and ended.result is not None
        names = [name for _, name, _ in ended.result["files"]]
        assert len(set(names)) == len(names)
        files = {f.name: await self.queue.files.content(job.id, f) for f in ended.shown}
        counts = {name: lines for _, name, lines in ended.result["files"]}
        assert counts == {name: files[name].count(b"\n") for name in names}
        return files


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step(after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "PAGE", 2)
    monkeypatch.setattr(walking, "SETTLE", 0)
    with served("sqlite", tmp_path / "s") as server:
        for n in range(7):
            server.put(f"Patient/p{n}", {"resourceType": "Patient", "id": f"p{n}"})
            organization = {"resourceType": "Organization", "id": f"o{n}", "name": "O"}
            server.put(f"Organization/o{n}", organization)
        bench = Bench(server, tmp_path / "jobs")
        types = ("Organization", "Patient")
        whole = server.run(bench.submit(types=types))
        assert server.run(bench.run(whole, 1_000_000, after))
        expected = server.run(bench.made(whole))
        assert len(expected) == 8 and sum(f.count(b"\n") for f in expected.values()) == 14
        job = server.run(bench.submit(types=types))
        server.put("Patient/p0", {"resourceType": "Patient", "id": "p0", "gender": "male"})
        server.put("Patient/late", {"resourceType": "Patient", "id": "late"})
        kills = 0
        bench.queue.rules = type(bench.queue.rules)(attempts=100)
        while not server.run(bench.run(job, 1 if after else kills % 2, after)):
            kills += 1
            assert kills < 40
        assert kills >= 4
        assert server.run(bench.made(job)) == expected


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_with_its_export(tmp_path: Path) -> None:
    """kill -9 in the middle; after a restart the manifest is whole, as of the same point."""
    port = 20_000 + os.getpid() % 20_000
    base = f"http://127.0.0.1:{port}/fhir"
    environment = os.environ | {
        "VEHR_BASE_URL": base.removesuffix("/fhir"),
        "VEHR_JOB_LEASE_SECONDS": "5",
        "PYTHONPATH": str(HERE),
    }
    command = [sys.executable, "-m", "fhir_server", "serve", "--open", "--port", str(port)]
    command += ["--data", str(tmp_path / "data")]

    def serve() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        wait(lambda: httpx.get(f"{base}/metadata").status_code == 200, 60)
        return process

    process = serve()
    try:
        for start in range(0, 30_000, 1000):
            entries = [_entry(n) for n in range(start, start + 1000)]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            assert httpx.post(base, json=bundle, timeout=120).status_code == 200
        url = f"{base}/Patient/$export?_elements=birthDate"
        answer = httpx.get(url, headers={"prefer": "respond-async"})
        place = answer.headers["content-location"]
        wait(lambda: _progress(place) > 0, 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = serve()
        late = {"resourceType": "Patient", "id": "late"}
        assert httpx.put(f"{base}/Patient/late", json=late).status_code == 201
        wait(lambda: httpx.get(place).status_code == 200, 90)
        made = httpx.get(place).json()
        ids: list[str] = []
        for item in made["output"]:
            ids += re.findall(r'"id":"(p[0-9]+)"', httpx.get(item["url"]).text)
        assert sorted(ids) == sorted(f"p{n}" for n in range(30_000))
    finally:
        process.kill()
        process.wait()


def _entry(n: int) -> Json:
    patient = {"resourceType": "Patient", "id": f"p{n}", "birthDate": "1980-01-01"}
    return {"resource": patient, "request": {"method": "PUT", "url": f"Patient/p{n}"}}


def _progress(place: str) -> int:
    answer = httpx.get(place)
    assert answer.status_code in (202, 429), "it ended before it could be killed"
    found = re.match(r"[0-9]+", answer.headers.get("x-progress", ""))
    return int(found[0]) if found else 0


def wait(ready: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    pytest.fail("it took too long")
