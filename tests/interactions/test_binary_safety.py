"""Content that is hostile, damaged or in a Bundle, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.contents import INLINE, sweep
from fhir_server.interactions.binary import JOINED
from fhir_server.store.blobs import LocalBlobs, MemoryBlobs
from tests.interactions.binaries import (
    AS_RESOURCE,
    PDF,
    binary,
    blob_files,
    data,
    identity,
    made,
    replaced,
    upload,
)
from tests.serving import Server, issue, served

# https://cheatsheetseries.owasp.org: content of others is never run, whatever it is said to be.


@pytest.mark.parametrize(
    ("media", "content"),
    [
        ("text/html", b"<script>alert(1)</script>"),
        ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("image/png", b"<html><script>alert(1)</script>"),
        ("application/pdf", b"%PDF-1.7 <html><script>alert(1)</script>"),
        ("text/plain", b"=cmd|' /C calc'!A0"),
        ("application/xml", b"<x:script xmlns:x='http://www.w3.org/1999/xhtml'>1</x:script>"),
    ],
)
def test_active_content_is_an_attachment(server: Server, media: str, content: bytes) -> None:
    id_ = identity(upload(server, content, media))
    read = server.get(f"Binary/{id_}", headers={"accept": "text/html,*/*"})
    assert read.content == content and read.headers["content-type"] == media
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert read.headers["content-disposition"] == f'attachment; filename="{id_}"'
    assert read.headers["cross-origin-resource-policy"] == "same-origin"
    assert len(read.headers.get_list("content-security-policy")) == 1


@pytest.mark.parametrize("media", ["text/html\nset-cookie:a=b", "text/html\rx", "text/ht ml", "x"])
def test_a_stored_type_cannot_add_headers(server: Server, media: str) -> None:
    answer = server.post("Binary", binary(b"x") | {"contentType": media})
    if answer.status_code != 201:
        assert answer.status_code == 422
        return
    read = server.get(f"Binary/{answer.json()['id']}")
    assert read.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in read.headers


@pytest.mark.parametrize(
    "id_",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..\\x",
        "a%00",
        "a%5cb",
        "a/%2e%2e/b",
        "....//x",
        "a" * 65,
    ],
)
def test_ids_are_no_paths(server: Server, id_: str) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        answer = server.send(
            method, f"Binary/{id_}", content=PDF, headers={"content-type": "application/pdf"}
        )
        assert answer.status_code in (400, 404, 405), (method, answer.text)


# Damage, orphans, commits.


def test_damaged_content_is_refused_and_named(tmp_path: Path) -> None:
    with served("sqlite", tmp_path) as server:
        id_ = made(server, bytes(3 * JOINED))
        [file] = blob_files(server)
        content = bytearray(file.read_bytes())
        content[-1] ^= 8
        file.write_bytes(content)
        for headers in ({}, AS_RESOURCE):
            answer = server.get(f"Binary/{id_}", headers=headers)
            assert answer.status_code == 500
            assert f"Binary/{id_}" in issue(answer)["diagnostics"]
            assert file.name not in answer.text


def test_the_sweep_keeps_what_any_version_names(server: Server) -> None:
    import time

    id_ = made(server, b"1" * INLINE)
    replaced(server, id_, b"2" * INLINE)
    server.delete(f"Binary/{id_}")
    assert upload(server, b"3" * INLINE, x_security_context="").status_code != 201
    replaced(server, id_ + "x", b"4" * INLINE, if_match='W/"7"')
    engine = server.domain.engine
    assert isinstance(engine.blobs, LocalBlobs | MemoryBlobs)

    before = set(server.run(engine.blobs.names()))
    assert server.run(sweep(engine, time.time() - 60)) == 0
    swept = server.run(sweep(engine, time.time() + 60))
    assert swept == len(before) - 2
    assert server.get(f"Binary/{id_}/_history/1").content == b"1" * INLINE
    assert server.get(f"Binary/{id_}/_history/2").content == b"2" * INLINE


def test_an_upload_that_breaks_off_stores_nothing(server: Server) -> None:
    async def sent() -> list[dict[str, Any]]:
        answers: list[Any] = []
        messages = iter(
            [
                {"type": "http.request", "body": b"half", "more_body": True},
                {"type": "http.disconnect"},
            ]
        )

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            answers.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/fhir/Binary",
            "raw_path": b"/fhir/Binary",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"a/b")],
        }
        await server.app(scope, receive, send)
        return answers

    [start, _] = server.run(sent())
    assert start["status"] == 400
    assert server.get("Binary?_summary=count").json()["total"] == 0


# Bundles.


def test_in_a_batch_it_is_a_resource(server: Server) -> None:
    small, large = made(server, PDF), made(server, bytes(JOINED + 1))
    entries = [{"request": {"method": "GET", "url": f"Binary/{id_}"}} for id_ in (small, large)]
    answer = server.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    first, second = answer.json()["entry"]
    assert data(first["resource"]) == PDF
    assert second["response"]["status"].startswith("400")
    assert second["response"]["outcome"]["issue"][0]["code"] == "too-costly"


def test_in_a_transaction(server: Server) -> None:
    content = os.urandom(INLINE)
    entry = {
        "resource": binary(content),
        "request": {"method": "POST", "url": "Binary"},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = server.post("", bundle, headers={"prefer": "return=representation"})
    [made_] = answer.json()["entry"]
    assert data(made_["resource"]) == content
    assert server.get(f"Binary/{made_['resource']['id']}").content == content


MEMORY = """
import asyncio, resource, sys
from pathlib import Path
from tests.serving import served

SIZE, CHUNK = 60_000_000, 65_536

async def upload(app):
    left = SIZE
    async def receive():
        nonlocal left
        part = min(CHUNK, left)
        left -= part
        return {"type": "http.request", "body": bytes(part), "more_body": left > 0}
    return await ask(app, "POST", "/fhir/Binary", receive, (b"content-type", b"a/b"))

async def ask(app, method, path, receive, *headers):
    status, taken, found = 0, 0, {}
    async def send(message):
        nonlocal status, taken
        if message["type"] == "http.response.start":
            status = message["status"]
            found.update(message["headers"])
        taken += len(message.get("body", b""))
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": [(b"host", b"127.0.0.1"), *headers]}
    await app(scope, receive, send)
    return status, taken, found

async def nothing():
    return {"type": "http.request", "body": b"", "more_body": False}

def rss():
    with open("/proc/self/status") as status:
        return next(int(l.split()[1]) for l in status if l.startswith("VmHWM"))

with served("sqlite", Path(sys.argv[1])) as server:
    server.get("metadata")
    before = rss()
    status, _, headers = server.run(upload(server.app))
    assert status == 201, status
    path = headers[b"location"].decode().removeprefix("http://127.0.0.1:8080").split("/_hist")[0]
    status, taken, _ = server.run(ask(server.app, "GET", path, nothing))
    assert (status, taken) == (200, SIZE), (status, taken)
    fhir = (b"accept", b"application/fhir+json")
    status, taken, _ = server.run(ask(server.app, "GET", path, nothing, fhir))
    assert status == 200 and taken > SIZE * 4 // 3, (status, taken)
    print(rss() - before)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """60 MB up, down and down as a resource: the peak of memory grows by less than 50 MB."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.splitlines()[-1])
    assert grown < 50_000, f"{grown} KB"
