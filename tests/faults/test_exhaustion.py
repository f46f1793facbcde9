"""R24: no files left, no room for the log, no place for temporary files; R23: what is told."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.faults.check import check
from tests.faults.load import Load, patient
from tests.faults.running import Running, running, until

pytestmark = pytest.mark.slow

JSON = {"content-type": "application/fhir+json"}
FILES = 200


async def load_for(server: Running, seconds: float) -> None:
    """Some load, all of it well; then the server stops and everything is checked."""
    load = Load(server.base, clients=4, seed=24)
    await asyncio.sleep(seconds)
    told = await load.stop()
    assert told.ok and set(told.statuses) <= {200, 201, 204}, told.statuses
    assert await asyncio.to_thread(server.stop) == 0
    await check(server.data, told)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_r24_no_room_for_the_log(tmp_path: Path, workers: str) -> None:
    """Errors that are logged meanwhile change nothing either."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    with running(tmp_path / "d", "--open", "--workers", workers, log_file=full) as server:
        blob = httpx.put(f"{server.base}/Binary/b", content=b"x" * 90_000, headers=TEXT)
        assert blob.status_code == 201
        for path in (tmp_path / "d" / "blobs").glob("??/*"):
            path.write_bytes(b"damaged")
        assert httpx.get(f"{server.base}/Binary/b", headers=PLAIN).status_code == 500
        (tmp_path / "d" / "blobs").joinpath("incoming").rmdir()
        put = httpx.put(f"{server.base}/Binary/c", content=b"y" * 90_000, headers=TEXT)
        assert put.status_code == 500 and put.json()["resourceType"] == "OperationOutcome"
        assert server.health() == 200
        httpx.delete(f"{server.base}/Binary/b")
        server.stop()


TEXT = {"content-type": "text/plain"}
PLAIN = {"accept": "text/plain"}


def test_r24_no_files_left(tmp_path: Path) -> None:
    """Too many connections get 503, /health goes on, and it ends with them."""
    limited = ("sh", "-c", f'ulimit -n {FILES}; exec "$@"', "limited")
    with running(tmp_path / "d", "--open", inside=limited) as server:

        async def crowd() -> tuple[set[int], str]:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            wires = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
            async with httpx.AsyncClient(limits=limits, timeout=30) as client:
                wires += [
                    await asyncio.open_connection("127.0.0.1", server.port) for _ in range(140)
                ]
                answers = [await client.get(f"{server.base}/Patient") for _ in range(3)]
                health = await client.get(f"{server.root}/health")
                assert all("retry-after" in answer.headers for answer in answers)
            for _, writer in wires:
                writer.close()
            return {answer.status_code for answer in answers}, health.text

        assert asyncio.run(crowd()) == ({503}, "ready\n")
        until(lambda: httpx.get(f"{server.base}/Patient").status_code == 200)
        asyncio.run(load_for(server, 0.5))


def test_r24_no_place_for_temporary_files() -> None:
    """/tmp and its like cannot be written."""
    works = shutil.which("unshare") and not subprocess.run(["unshare", "-m", "true"]).returncode
    if not works or not Path("/dev/shm").is_dir():
        pytest.skip("no mount namespace can be made here")
    mounts = "for at in /tmp /var/tmp; do mount --bind $at $at; mount -o remount,ro,bind $at; done"
    inside = ("unshare", "-m", "sh", "-c", f'{mounts}; exec "$@"', "hidden")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        data = Path(folder) / "d"
        with running(data, "--open", "--workers", "2", inside=inside) as server:
            posted = httpx.post(
                f"{server.base}/Patient", json=patient("job"), headers=JSON | ASYNC, timeout=20
            )
            assert posted.status_code == 202
            link = posted.headers["content-location"]
            until(lambda: httpx.get(link, timeout=20).status_code == 200)
            httpx.delete(link)
            assert httpx.get(f"{server.base}/Patient").json()["total"] == 1
            predicted = httpx.get(f"{server.base}/Patient?_count=1").json()["entry"][0]
            answer = httpx.get(f"{predicted['fullUrl']}/$predict", timeout=60)
            assert answer.status_code in (200, 422), answer.text
            assert server.stop() == 0


ASYNC = {"prefer": "respond-async"}
