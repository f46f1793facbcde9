"""T22: nothing that a client sends or that is stored comes into logs, metrics or stray files."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.faults.running import running

pytestmark = pytest.mark.slow

CANARY = "Zq7canary"
HOME = {"vehr.sqlite", "vehr.sqlite-wal", "vehr.sqlite-shm", "blobs", "jobs"}
"""Where the record itself lies."""


def provoked(base: str) -> None:
    """Requests of all kinds, right and wrong, each with the canary in it."""
    json = {"content-type": "application/fhir+json"}
    patient = {
        "resourceType": "Patient",
        "id": f"{CANARY}-id",
        "identifier": [{"value": f"{CANARY}-mrn"}],
        "name": [{"family": f"{CANARY}-family"}],
    }
    with httpx.Client(base_url=base, headers={"authorization": f"Bearer {CANARY}-token"}) as client:
        client.put(f"/Patient/{CANARY}-id", json=patient, headers=json)
        client.post("/Patient", json=patient | {"gender": CANARY}, headers=json)
        client.post("/Patient", content=f'{{"{CANARY}": '.encode(), headers=json)
        client.post("/Patient", content=CANARY.encode(), headers={"content-type": "text/plain"})
        client.get("/Patient", params={"name": CANARY, f"{CANARY}": "x", "birthdate": CANARY})
        client.get("/Patient", params={"name": CANARY, "_sort": CANARY})
        client.post("/Patient/_search", data={"name": CANARY, "family:contains": CANARY})
        client.get(f"/Patient/{CANARY}-id/_history/{CANARY}")
        client.get(f"/{CANARY}/{CANARY}", headers={"x-request-id": f"{CANARY} x", "prefer": CANARY})
        client.request(CANARY.upper(), f"/Patient/{CANARY}")
        client.get("/Patient", params={"name": CANARY}, headers={"prefer": "respond-async"})
        client.delete(f"/Patient/{CANARY}-id")
        client.get("/metadata", headers={"host": f"{CANARY}.example"})


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("--open",), ()])
def test_t22_no_canary_in_logs_metrics_and_files(tmp_path: Path, mode: tuple[str, ...]) -> None:
    data, temporary = tmp_path / "data", tmp_path / "temporary"
    temporary.mkdir()
    with running(data, *mode, TMPDIR=str(temporary)) as server:
        provoked(server.base)
        metrics = httpx.get(server.root + "/metrics").text
        assert "vehr_requests_total" in metrics and CANARY.lower() not in metrics.lower()
        server.stop()
    log = (tmp_path / "data.log").read_text()
    assert "vEHR serves" in log and CANARY.lower() not in log.lower()
    strays = [path for path in temporary.rglob("*") if path.is_file() and holds(path)]
    assert not strays
    others = [
        p for p in data.rglob("*") if p.is_file() and p.relative_to(data).parts[0] not in HOME
    ]
    assert not [path for path in others if holds(path)]


def holds(path: Path) -> bool:
    return CANARY.lower().encode() in path.read_bytes().lower()
