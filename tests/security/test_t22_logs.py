"""T22: nothing that a client sends or that is stored comes into logs, metrics or stray files."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from base64 import b64decode
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from fhir_server.app import opened
from fhir_server.config import Settings
from tests.faults.running import running, until

pytestmark = pytest.mark.slow

CANARY = "Zq7canary"
HOME = {"vehr.sqlite", "vehr.sqlite-wal", "vehr.sqlite-shm", "blobs", "jobs", "audit"}
"""Where the record itself lies, and who asked for what of it."""


def provoked(base: str, token: str) -> set[int]:
    """Requests of all kinds, right and wrong, each with the canary in it; their statuses."""
    json = {"content-type": "application/fhir+json"}
    patient = {
        "resourceType": "Patient",
        "id": f"{CANARY}-id",
        "identifier": [{"value": f"{CANARY}-mrn"}],
        "name": [{"family": f"{CANARY}-family"}],
        "birthDate": "1970-01-01",
    }
    place, statuses = f"/Patient/{CANARY}-id", set[int]()
    entry = {"resource": patient, "request": {"method": "PUT", "url": place[1:]}}
    bad = {"resource": patient | {"gender": CANARY}, "request": {"method": "POST", "url": "X"}}
    bundle = {"resourceType": "Bundle", "type": "transaction"}
    within = {"resourceType": "Parameters", "parameter": [{"name": CANARY, "resource": patient}]}
    with httpx.Client(
        base_url=base,
        headers={"authorization": f"Bearer {token}"},
        timeout=60,
        event_hooks={"response": [lambda answer: statuses.add(answer.status_code)]},
    ) as client:
        client.put(place, json=patient, headers=json)
        client.post("/Patient", json=patient | {"gender": CANARY}, headers=json)
        client.post("/Patient", content=f'{{"{CANARY}": '.encode(), headers=json)
        client.post("/Patient", content=CANARY.encode(), headers={"content-type": "text/plain"})
        client.post("/", json=bundle | {"entry": [entry]}, headers=json)
        client.post("/", json=bundle | {"type": "batch", "entry": [entry, bad]}, headers=json)
        client.post("/", json=bundle | {"entry": [entry, bad]}, headers=json)
        client.get("/Patient", params={"name": CANARY, f"{CANARY}": "x", "birthdate": CANARY})
        client.get("/Patient", params={"name": CANARY, "_sort": CANARY})
        client.post("/Patient/_search", data={"name": CANARY, "family:contains": CANARY})
        client.get(f"{place}/_history/{CANARY}")
        client.get(f"/{CANARY}/{CANARY}", headers={"x-request-id": f"{CANARY} x", "prefer": CANARY})
        client.request(CANARY.upper(), f"/Patient/{CANARY}")
        for operation in ("$predict", "$match", "$anonymize", "$everything", "$meta", "$stats"):
            client.post(f"/Patient/{operation}", json=within, headers=json)
            client.get(f"{place}/{operation}", params={CANARY: CANARY})
        client.put(f"/Binary/{CANARY}", content=CANARY * 9_000, headers={"content-type": "a/b"})
        client.get("/Patient", params={"name": CANARY}, headers={"prefer": "respond-async"})
        client.delete(place)
        client.get("/metadata", headers={"host": f"{CANARY}.example"})
    return statuses


def recorded(trail: Path) -> str:
    """A file of the audit trail, with the URLs and forms in it read."""
    lines = trail.read_text()
    coded = re.findall(r'"(?:url|form)":"([^"]+)"', lines)
    return "\n".join([lines, *(unquote(b64decode(text).decode()) for text in coded)])


async def issued(data: Path) -> str:
    async with opened(Settings(data=data)) as domain:
        return await domain.tokens.issue(scope="system/*.cruds", minutes=5, client=CANARY)


def broken(data: Path, base: str, token: str) -> None:
    """What the server cannot have expected: a table is gone, a content is damaged."""
    headers = {"authorization": f"Bearer {token}"}
    for path in (data / "blobs").glob("??/*"):
        path.write_bytes(CANARY.encode())
    content = httpx.get(f"{base}/Binary/{CANARY}", headers=headers | {"accept": "a/b"})
    connection = sqlite3.connect(data / "vehr.sqlite")
    connection.execute("ALTER TABLE resource RENAME TO other")
    connection.commit()
    search = httpx.get(f"{base}/Patient", params={"name:contains": CANARY}, headers=headers)
    assert {content.status_code, search.status_code} == {500}, (content, search)
    assert CANARY not in content.text.replace(f"Binary/{CANARY}", "") + search.text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["open", "refused", "token", "workers"])
def test_t22_no_canary_in_logs_metrics_and_files(tmp_path: Path, mode: str) -> None:
    data, temporary = tmp_path / "data", tmp_path / "temporary"
    temporary.mkdir()
    token = asyncio.run(issued(data)) if mode in ("token", "workers") else f"{CANARY}-token"
    arguments = {"open": ("--open",), "workers": ("--workers", "2")}.get(mode, ())
    with running(data, *arguments, TMPDIR=str(temporary)) as server:
        statuses = provoked(server.base, token)
        assert max(statuses) < 500 and ((201 in statuses) is (mode != "refused")), statuses
        metrics = httpx.get(server.root + "/metrics").text
        assert "vehr_requests_total" in metrics and CANARY.lower() not in metrics.lower()
        if mode != "refused":
            broken(data, server.base, token)
        until(lambda: "vEHR serves" in (tmp_path / "data.log").read_text(), 120)
        server.stop()
    log = (tmp_path / "data.log").read_text()
    assert CANARY.lower() not in log.lower()
    assert ("unexpected error" in log) is (mode != "refused")
    strays = [path for path in temporary.rglob("*") if path.is_file() and holds(path)]
    assert not strays
    others = [
        p for p in data.rglob("*") if p.is_file() and p.relative_to(data).parts[0] not in HOME
    ]
    for trail in (data / "audit").glob("*"):
        said = recorded(trail)
        assert not [what for what in ("token", "family", "mrn") if f"{CANARY}-{what}" in said]
    assert not [path for path in others if holds(path)]


def holds(path: Path) -> bool:
    return CANARY.lower().encode() in path.read_bytes().lower()
