"""R03, T23: with a full disk nothing is answered that could not be recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.faults.disks import free, small_disk
from tests.faults.running import ROOT, clean_environ, running, until

pytestmark = pytest.mark.slow

JSON = {"content-type": "application/fhir+json"}


def vehr(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fhir_server", *map(str, words)],
        cwd=ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def fill_whole(disk: Path) -> None:
    """To the last byte, so that not even a line finds room."""
    with (disk / "filler").open("ab", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(os.urandom(size))
            except OSError:
                size //= 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_r03_without_room_for_the_audit_trail_nobody_is_answered(
    tmp_path: Path, workers: str
) -> None:
    with small_disk(tmp_path / "data", 48) as disk, running(disk, "--workers", workers) as server:
        made = vehr("token", "--client", "c", "--scope", "system/*.cruds", "--data", disk)
        assert made.returncode == 0, made.stderr
        headers = {"authorization": f"Bearer {made.stdout.strip()}"}
        with httpx.Client(base_url=server.root, headers=headers, timeout=30) as client:
            kept = client.post("/fhir/Patient", json={"resourceType": "Patient"}, headers=JSON)
            url = f"/fhir/Patient/{kept.json()['id']}"
            fill_whole(disk)
            answered = 0
            # A line may still find room in the last block of its file.
            while client.get(url).status_code == 200:
                answered += 1
                assert answered < 500
            for method, place in (("GET", url), ("GET", "/fhir/Patient"), ("DELETE", url)):
                refused = client.request(method, place)
                if refused.status_code == 200 and workers == "2":
                    continue  # of the other worker, whose file has some room left
                assert refused.status_code in (503, 507), refused.text
                assert refused.json()["resourceType"] == "OperationOutcome"
                assert kept.text not in refused.text and "retry-after" in refused.headers
            assert client.get("/fhir/metadata").status_code == 200
            assert server.health_text().startswith("degraded: ")
            free(disk)
            until(lambda: client.get(url).status_code == 200)
            until(lambda: server.health_text() == "ready\n")
        server.stop()
        verified = vehr("audit", "verify", "--data", disk)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        lines = b"".join(path.read_bytes() for path in (disk / "audit").glob("*.ndjson"))
        assert lines.count(b'"interaction":"read"') >= answered + 2
