"""R09: a transaction that fails at its entry k leaves nothing, for each k and each kind of
failure. R11: a request whose answer was lost may be sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.load import SYSTEM, patient
from tests.faults.running import Running, running
from tests.serving import BACKENDS, Json, Server, served

pytestmark = pytest.mark.slow

ENTRIES = 6


@pytest.fixture(scope="module", params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with served(request.param, tmp_path_factory.mktemp("d")) as made:
        yield made


def entry(method: str, url: str, resource: Json | None = None, **request: str) -> Json:
    made: Json = {"request": {"method": method, "url": url, **request}}
    return made if resource is None else made | {"resource": resource}


FAILURES: dict[str, tuple[Json, int]] = {
    "invalid": (entry("POST", "Patient", patient("bad") | {"gender": "x"}), 422),
    "stale": (entry("PUT", "Patient/old", patient("bad", "old"), ifMatch='W/"9"'), 412),
    "not there": (entry("GET", "Patient/nobody"), 404),
    "patch": (
        entry(
            "PATCH",
            "Patient/old",
            {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W10"},
        ),
        400,
    ),
    "several match": (
        entry("POST", "Patient", patient("bad"), ifNoneExist="identifier=double"),
        412,
    ),
}


def everything(server: Server) -> tuple[int, dict[str, int], list[Any], list[Any]]:
    """What can be seen from outside, and where the change feed is."""
    history = server.get("_history?_count=1000").json()
    found = server.get(f"Patient?identifier={SYSTEM}|&_count=1000").json()
    return (
        server.run(server.domain.store.position()),
        server.run(server.domain.store.counts()),
        [e["fullUrl"] for e in history.get("entry", ())],
        [e["resource"] for e in found.get("entry", ())],
    )


@pytest.fixture(scope="module")
def old(server: Server) -> Iterator[None]:
    server.put("Patient/old", patient("old", "old"))
    for _ in range(2):
        server.create(patient("x") | {"identifier": [{"value": "double"}]})
    return


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("place", range(ENTRIES))
def test_r09_a_failure_at_each_entry(server: Server, kind: str, place: int) -> None:
    bad, _ = FAILURES[kind]
    entries = [
        entry("POST", "Patient", patient("new")),
        entry("PUT", "Patient/old", patient("changed", "old")),
        entry("POST", "Observation", observation("Patient/old")),
        entry("POST", "Patient", patient("once"), ifNoneExist=f"identifier={SYSTEM}|once"),
        entry("PUT", "Patient?identifier=urn:none|none", patient("conditional")),
    ]
    if kind == "stale" or kind == "patch":
        entries.pop(1)
    entries.insert(place, bad)
    before = everything(server)
    answer = server.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code >= 400, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert everything(server) == before
    whole = [good for good in entries if good is not bad]
    if place == 0 and kind == "invalid":
        answer = server.post("", {"resourceType": "Bundle", "type": "transaction", "entry": whole})
        assert answer.status_code == 200, answer.text
        assert everything(server) != before


def observation(subject: str) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": subject},
    }


class Cut:
    """A proxy that hands on requests and never an answer."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        ours.write(await reader.read(65_536))
        await theirs.read(1)
        ours.close()
        writer.close()


async def sent(port: int, method: str, path: str, body: Json, header: str = "") -> int | None:
    """The status; None if the connection was cut."""
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"{method} /fhir/{path} HTTP/1.1\r\nHost: localhost\r\n{header}"
        f"Content-Type: application/fhir+json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    line = await reader.readline()
    writer.close()
    return int(line.split()[1]) if line else None


RETRIED = [
    ("POST", "Patient", "If-None-Exist: identifier={}\r\n", 200),
    ("PUT", "Patient?identifier={}", "", 200),
    ("PUT", "Patient/mine", "", 200),
]


def test_r11_the_answer_is_lost(tmp_path: Path) -> None:
    """Sent again it finds what the first one stored: one resource, one version."""

    async def retry(server: Running) -> None:
        proxy = await asyncio.start_server(Cut(server.port), "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        for number, (method, path, header, status) in enumerate(RETRIED):
            tag = f"once-{number}"
            body = patient(tag, "mine" if path == "Patient/mine" else None)
            path, header = path.format(f"{SYSTEM}|{tag}"), header.format(f"{SYSTEM}|{tag}")
            assert await sent(port, method, path, body, header) is None
            assert await sent(server.port, method, path, body, header) == status
        proxy.close()

    with running(tmp_path / "d", "--open") as server:
        asyncio.run(retry(server))
        for number in range(len(RETRIED)):
            found = httpx.get(f"{server.base}/Patient?identifier={SYSTEM}|once-{number}").json()
            assert found["total"] == 1
            assert found["entry"][0]["resource"]["meta"]["versionId"] == "1"
