"""$import: files and uploads, errors, and what a kill leaves to do."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.formats.json import Limits
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.queue import Queue
from fhir_server.model.problem import NotFound, Unprocessable
from operations.bulk import taking
from operations.bulk.taking import import_body, inside, lines
from tests.operations.test_export_job import Killed, Short
from tests.serving import BACKENDS, Json, Server, issue, served

ALL = "system/*.cruds"


def patient(number: int, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": f"p{number}", "gender": "female", **more}


def ndjson(*resources: Any) -> bytes:
    return b"".join([json.dumps(one).encode() + b"\n" for one in resources])


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "inbox"
    folder.mkdir()
    with served(request.param, tmp_path / "data", open_=False, imports=folder) as server:
        yield server


def kick(server: Server, *inputs: tuple[str, str], **changed: Any) -> httpx.Response:
    given = {"format": "application/fhir+ndjson", "prefer": "respond-async"} | changed
    parts: list[Json] = [{"name": "inputFormat", "valueString": given["format"]}]
    for type_, url in inputs:
        part = [{"name": "type", "valueCode": type_}, {"name": "url", "valueUri": url}]
        parts.append({"name": "input", "part": part})
    headers = given.get("headers") or server.bearer(given.get("scope", ALL))
    body = {"resourceType": "Parameters", "parameter": parts}
    return server.post("$import", body, headers=headers | {"prefer": given["prefer"]})


def ended(server: Server, answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 202, answer.text
    headers = server.bearer(ALL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = server.get(answer.headers["content-location"], headers=headers)
        if status.status_code not in (202, 429):
            return status
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def inbox(server: Server, name: str, content: bytes) -> str:
    folder = server.domain.settings.imports
    assert folder is not None
    (folder / name).write_bytes(content)
    return f"file:{name}"


def count(server: Server, type_: str = "Patient") -> int:
    found: int = server.get(f"{type_}?_summary=count", headers=server.bearer(ALL)).json()["total"]
    return found


def test_files_of_the_folder(server: Server) -> None:
    people = inbox(server, "Patient.ndjson", ndjson(*[patient(n) for n in range(450)]))
    values = [
        {"resourceType": "Observation", "id": f"o{n}", "status": "final", "code": {"text": "t"},
         "subject": {"reference": f"Patient/p{n}"}}
        for n in range(3)
    ]  # fmt: skip
    packed = inbox(server, "Observation.ndjson.gz", gzip.compress(ndjson(*values)))
    made = ended(server, kick(server, ("Patient", people), ("Observation", packed))).json()
    assert [(one["type"], one["inputUrl"], one["count"]) for one in made["output"]] == [
        ("Patient", people, 450),
        ("Observation", packed, 3),
    ]
    assert made["error"] == [] and made["request"].endswith("/$import")
    assert (count(server), count(server, "Observation")) == (450, 3)
    again = ended(server, kick(server, ("Patient", people))).json()
    assert again["output"][0]["count"] == 450
    headers = server.bearer(ALL)
    assert server.get("Patient/p7", headers=headers).json()["meta"]["versionId"] == "1"


def test_an_uploaded_file(server: Server) -> None:
    for size in (3, 600):
        content = ndjson(*[patient(n) for n in range(size)])
        headers = server.bearer(ALL) | {"content-type": "application/fhir+ndjson+x"}
        answer = server.send("POST", "Binary", content=content, headers=headers)
        assert answer.status_code == 201, answer.text
        id_ = answer.headers["location"].rpartition("/Binary/")[2].partition("/")[0]
        made = ended(server, kick(server, ("Patient", f"Binary/{id_}"))).json()
        assert made["output"][0]["count"] == size and count(server) == size


def test_lines_that_cannot_be_stored(server: Server) -> None:
    content = ndjson(
        patient(1),
        {"resourceType": "Observation", "id": "x"},
        {"resourceType": "Patient"},
        patient(2, gender="none"),
        patient(1),
    )
    content += b"{broken\n\n" + b"x" * 10_000_001 + b"\n" + ndjson(patient(3))
    url = inbox(server, "mixed.ndjson", content)
    made = ended(server, kick(server, ("Patient", url))).json()
    assert made["output"][0]["count"] == 2 and count(server) == 2
    [error] = made["error"]
    assert error["count"] == 6
    told = server.get(error["url"], headers=server.bearer(ALL))
    places = [json.loads(line)["issue"][0]["diagnostics"] for line in told.text.splitlines()]
    assert [text.partition(":")[2].split(":")[0] for text in places] == [
        f"mixed.ndjson line {number}" for number in (2, 3, 5, 6, 8, 4)
    ]


def test_too_many_errors_end_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "MOST_ERRORS", 3)
    url = inbox(server, "bad.ndjson", b"{}\n" * 5)
    answer = ended(server, kick(server, ("Patient", url)))
    assert answer.status_code == 422 and "3 lines" in issue(answer)["diagnostics"]


def test_refused(server: Server) -> None:
    url = inbox(server, "p.ndjson", ndjson(patient(1)))
    outside = server.domain.settings.data.parent / "secret.ndjson"
    outside.write_bytes(ndjson(patient(2)))
    folder = server.domain.settings.imports
    assert folder is not None
    (folder / "link.ndjson").symlink_to(outside)
    wrong = {
        "file:../secret.ndjson": 404,
        f"file:{outside}": 404,
        "file:link.ndjson": 404,
        "file:nothing": 404,
        "file:": 404,
        "Binary/nothing": 404,
        "https://example.org/p.ndjson": 400,
        "http://127.0.0.1/p.ndjson": 400,
        "s3://bucket/p.ndjson": 400,
    }
    assert {place: kick(server, ("Patient", place)).status_code for place in wrong} == wrong
    assert kick(server, ("Nothing", url)).status_code == 400
    assert kick(server).status_code == 400
    assert kick(server, ("Patient", url), format="text/csv").status_code == 400
    assert kick(server, ("Patient", url), prefer="").status_code == 400
    assert kick(server, ("Patient", url), scope="system/Patient.rs").status_code == 403
    assert kick(server, ("Patient", url), scope="system/Observation.cruds").status_code == 403
    server.user("doc", "family-doctor", "Practitioner/d")
    doctor = server.bearer("user/*.cruds", user="doc")
    assert kick(server, ("Patient", url), headers=doctor).status_code == 403
    assert count(server) == 0


def test_it_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at every step, before and after its checkpoint."""
    monkeypatch.setattr(taking, "TOGETHER", 2)
    content = ndjson(*[patient(n) for n in range(3)], {"resourceType": "Patient"}, patient(4))
    (tmp_path / "p.ndjson").write_bytes(content)
    with served("memory", tmp_path / "data") as server:
        clock = time.time_ns() // 1000
        queue = Queue(server.domain.store.ledger, JobFiles(tmp_path / "jobs"), lambda: clock)
        session, body = server.domain.system_session("test"), import_body(tmp_path, Limits())
        inputs = {"inputs": [["Patient", "file:p.ndjson"]], "url": "u"}

        async def run(id_: str, left: int, after: bool) -> bool:
            nonlocal clock
            claimed = await queue.claim(id_)
            assert claimed is not None and claimed.lease is not None
            context = Short(queue, claimed, session)
            context.left, context.after = left, after
            try:
                await body(context)
            except Killed:
                clock += 60_000_000
                return False
            await queue.end(id_, "done", holder=claimed.lease.holder, result=context.settled)
            return True

        for left in range(4):
            for after in (False, True):
                # Of a kind that the runner of the server has no body for.
                job = server.run(queue.submit(Asked("bench", Owner("t"), "http://b", inputs)))
                server.run(run(job.id, left, after))
                assert server.run(run(job.id, 1000, False)) or left > 2
                done = server.run(queue.get(job.id))
                assert done is not None and done.result is not None
                assert done.result["output"][0]["count"] == 4
                assert done.result["error"][0]["count"] == 1
        found = server.get("Patient/p0/_history").json()
        assert found["total"] == 1


def test_lines_of_any_pieces() -> None:
    async def of(pieces: list[bytes], longest: int = 100) -> list[bytes | None]:
        async def content() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return [line async for line in lines(content(), longest)]

    def read(pieces: list[bytes], longest: int = 100) -> list[bytes | None]:
        return asyncio.run(of(pieces, longest))

    whole = b"one\ntwo\n\nthree"
    wanted = [b"one", b"two", b"", b"three"]
    assert read([whole]) == read([whole[n : n + 1] for n in range(len(whole))]) == wanted
    packed = gzip.compress(whole)
    assert read([packed]) == read([packed[n : n + 2] for n in range(0, len(packed), 2)]) == wanted
    two = gzip.compress(b"one\ntw") + gzip.compress(b"o\n\nthree") + bytes(5)
    assert read([two]) == read([two[n : n + 2] for n in range(0, len(two), 2)]) == wanted
    long = b"one\n" + b"x" * 300 + b"\ntwo\n" + b"y" * 101
    for size in (1, 64, 1000):
        pieces = [long[n : n + size] for n in range(0, len(long), size)]
        assert read(pieces) == [b"one", None, b"two", None]
    for wrong in ([packed[:-9]], [packed[:8] + b"broken" * 9]):
        with pytest.raises(Unprocessable):
            read(wrong)


def test_inside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"")
    (tmp_path / "out").write_bytes(b"")
    assert inside(tmp_path / "in", "a").name == "a"
    for name in ("../out", "", ".", str(tmp_path / "out"), "b", "a/../../out", "a\0"):
        with pytest.raises(NotFound):
            inside(tmp_path / "in", name)
    with pytest.raises(NotFound):
        inside(None, "a")
