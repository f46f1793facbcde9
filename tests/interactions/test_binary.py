"""Binary: raw and as a resource, its access, its safety. https://hl7.org/fhir/R4/binary.html"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.access.contents import INLINE, sweep
from fhir_server.interactions.binary import JOINED
from fhir_server.store.blobs import LocalBlobs, MemoryBlobs
from tests.serving import BACKENDS, FHIR_JSON, Server, issue, served

PDF = b"%PDF-1.7 \x00\xff\r\n"
AS_RESOURCE = {"accept": FHIR_JSON}


def upload(
    server: Server, content: bytes = PDF, media: str = "application/pdf", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.send("POST", "Binary", content=content, headers={"content-type": media, **named})


def replaced(server: Server, id_: str, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"content-type": "application/pdf", **named}
    return server.send("PUT", f"Binary/{id_}", content=content, headers=named)


def identity(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    found = re.fullmatch(r".*/Binary/([^/]+)/_history/1", answer.headers["location"])
    assert found
    return found[1]


def made(server: Server, content: bytes = PDF, **headers: str) -> str:
    return identity(upload(server, content, **headers))


def data(resource: dict[str, Any]) -> bytes:
    return base64.b64decode(resource["data"], validate=True)


def binary(content: bytes, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(content).decode()
    return {"resourceType": "Binary", "contentType": "application/pdf", "data": text, **more}


SIZES = (1, 2, 3, INLINE, JOINED, JOINED + 1, 3 * JOINED + 2)


@pytest.mark.parametrize("size", SIZES)
def test_content_comes_back_as_it_was(server: Server, size: int) -> None:
    content = os.urandom(size)
    answer = upload(server, content)
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"]
    read = server.get(f"Binary/{identity(answer)}")
    assert read.status_code == 200 and read.content == content
    assert read.headers["content-type"] == "application/pdf"
    assert read.headers["content-length"] == str(size)
    assert read.headers["etag"] == 'W/"1"'


@pytest.mark.parametrize("size", SIZES)
def test_as_a_resource_it_has_its_data(server: Server, size: int) -> None:
    content = os.urandom(size)
    id_ = made(server, content)
    for options in ({"headers": AS_RESOURCE}, {"params": {"_format": "json"}}):
        plain = {"accept-encoding": "identity", **options.get("headers", {})}
        read = server.get(f"Binary/{id_}", **{**options, "headers": plain})
        assert read.headers["content-type"].startswith(FHIR_JSON)
        assert read.headers["content-length"] == str(len(read.content))
        resource = read.json()
        assert data(resource) == content
        meta = resource.pop("meta")
        del resource["data"]
        assert resource == {"resourceType": "Binary", "id": id_, "contentType": "application/pdf"}
        assert set(meta) == {"versionId", "lastUpdated"}


@pytest.mark.parametrize("size", SIZES)
def test_sent_as_a_resource(server: Server, size: int) -> None:
    content = os.urandom(size)
    created = server.create(binary(content))
    assert data(created) == content
    read = server.get(f"Binary/{created['id']}", headers=AS_RESOURCE)
    assert read.json() == created
    assert server.get(f"Binary/{created['id']}").content == content


def test_empty_content(server: Server) -> None:
    id_ = made(server, b"")
    read = server.get(f"Binary/{id_}")
    assert read.status_code == 200 and read.content == b""
    assert "data" not in server.get(f"Binary/{id_}", headers=AS_RESOURCE).json()


# "unless specifically requested, the FHIR representation is not returned"
@pytest.mark.parametrize(
    ("accept", "raw"),
    [
        ("*/*", True),
        ("application/pdf", True),
        ("image/png", True),
        ("application/json, text/plain, */*", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/fhir+xml, */*;q=0.1", False),
        ("application/fhir+json", False),
        ("application/fhir+json; fhirVersion=4.0", False),
        ("application/json+fhir", False),
        ("application/pdf, application/fhir+json;q=0.5", False),
    ],
)
def test_what_accept_asks_for(server: Server, accept: str, raw: bool) -> None:
    id_ = made(server)
    read = server.get(f"Binary/{id_}", headers={"accept": accept})
    assert read.status_code == 200
    assert (read.content == PDF) is raw


def test_formats_that_are_not_served(server: Server) -> None:
    id_ = made(server)
    for options in (
        {"headers": {"accept": "application/fhir+turtle"}},
        {"params": {"_format": "ttl"}},
    ):
        answer = server.get(f"Binary/{id_}", **options)
        assert answer.status_code == 406 and issue(answer)


def test_head_has_the_headers_alone(server: Server) -> None:
    id_ = made(server, bytes(2 * JOINED))
    for headers in ({}, AS_RESOURCE):
        got = server.get(f"Binary/{id_}", headers=headers)
        head = server.send("HEAD", f"Binary/{id_}", headers=headers)
        assert head.status_code == 200 and head.content == b""
        skipped = {"x-request-id"}
        assert {k: v for k, v in head.headers.items() if k not in skipped} == {
            k: v for k, v in got.headers.items() if k not in skipped
        }


def test_the_client_may_have_it_already(server: Server) -> None:
    id_ = made(server)
    answer = server.get(f"Binary/{id_}", headers={"if-none-match": 'W/"1"'})
    assert answer.status_code == 304 and answer.content == b""


def test_every_version_keeps_its_content(server: Server) -> None:
    id_ = made(server, b"one" * INLINE)
    assert replaced(server, id_, b"two" * INLINE).status_code == 200
    assert server.put(f"Binary/{id_}", binary(b"three", id=id_)).status_code == 200
    assert server.delete(f"Binary/{id_}").status_code == 204
    assert server.get(f"Binary/{id_}").status_code == 410
    for version, content in (("1", b"one" * INLINE), ("2", b"two" * INLINE), ("3", b"three")):
        place = f"Binary/{id_}/_history/{version}"
        assert server.get(place).content == content
        assert data(server.get(place, headers=AS_RESOURCE).json()) == content
    assert server.get(f"Binary/{id_}/_history/4").status_code == 410
    history = server.get(f"Binary/{id_}/_history").json()
    assert [e["response"]["etag"] for e in history["entry"]] == [
        'W/"4"',
        'W/"3"',
        'W/"2"',
        'W/"1"',
    ]


def test_bundles_say_that_large_content_is_left_out(server: Server) -> None:
    large, small = made(server, bytes(INLINE)), server.create(binary(b"small"))["id"]
    for url in (f"Binary/{large}/_history", f"Binary?_id={large}"):
        [entry] = server.get(url).json()["entry"]
        assert "data" not in entry["resource"]
        assert entry["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"
    [entry] = server.get(f"Binary?_id={small}").json()["entry"]
    assert data(entry["resource"]) == b"small" and "tag" not in entry["resource"]["meta"]
    tags = server.get(f"Binary/{large}", headers=AS_RESOURCE).json()["meta"]
    assert "tag" not in tags


def test_what_a_bundle_showed_without_data_is_not_written_back(server: Server) -> None:
    id_ = made(server, bytes(INLINE))
    [entry] = server.get(f"Binary?_id={id_}").json()["entry"]
    answer = server.put(f"Binary/{id_}", entry["resource"])
    assert answer.status_code == 422 and "SUBSETTED" in issue(answer)["diagnostics"]
    assert server.get(f"Binary/{id_}").content == bytes(INLINE)


def test_raw_content_is_answered_at_once(server: Server) -> None:
    """A client's preference for a job is not taken up: the content is there already."""
    id_ = made(server, prefer="respond-async")
    assert replaced(server, id_, b"2", prefer="respond-async").status_code == 200
    assert server.get(f"Binary/{id_}", headers={"prefer": "respond-async"}).content == b"2"


def test_nothing_of_the_blob_leaks(server: Server) -> None:
    content = os.urandom(INLINE)
    answer = upload(server, content)
    id_ = identity(answer)
    digest = hashlib.sha256(content).hexdigest()
    places = (f"Binary/{id_}", f"Binary/{id_}/_history", f"Binary?_id={id_}")
    for seen in (answer, *(server.get(place, headers=AS_RESOURCE) for place in places)):
        assert digest not in seen.text and digest not in str(seen.headers)


def test_prefer(server: Server) -> None:
    minimal = upload(server, prefer="return=minimal")
    assert minimal.content == b"" and identity(minimal)
    outcome = upload(server, prefer="return=OperationOutcome")
    assert outcome.json()["resourceType"] == "OperationOutcome"
    assert data(upload(server).json()) == PDF
    large = bytes(JOINED + 1)
    assert upload(server, large).content == b""
    assert data(upload(server, large, prefer="return=representation").json()) == large


def test_preconditions(server: Server) -> None:
    id_ = made(server)
    assert replaced(server, id_, b"2", if_match='W/"9"').status_code == 412
    assert replaced(server, id_, b"2", if_match='W/"1"').headers["etag"] == 'W/"2"'
    assert server.get(f"Binary/{id_}").content == b"2"


def test_if_none_exist(server: Server) -> None:
    tagged = {"meta": {"tag": [{"code": "one"}]}}
    first = upload(server, if_none_exist="_tag=one")
    assert first.status_code == 201
    known = server.create(binary(PDF, **tagged))
    again = upload(server, b"other", if_none_exist="_tag=one")
    assert again.status_code == 200 and data(again.json()) == PDF
    assert again.headers["location"].endswith(f"Binary/{known['id']}/_history/1")
    same = upload(server, b"other", if_none_exist=f"_id={identity(first)}")
    assert same.status_code == 200 and server.get(f"Binary/{identity(first)}").content == PDF
    server.create(binary(PDF, **tagged))
    assert upload(server, if_none_exist="_tag=one").status_code == 412
    for bad in ("", "unknown=1", "_tag:nothing=1"):
        assert upload(server, if_none_exist=bad).status_code == 400
    assert server.get("Binary?_total=accurate").json()["total"] == 3


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=2-5": (2, 6),
    "bytes=5-": (5, None),
    "bytes=-3": (-3, None),
    "bytes=0-99999999999": (0, None),
    "bytes=-99999999999": (0, None),
    "Bytes= 1-2": (1, 3),
}
WHOLE = ("bytes=0-1,3-4", "bytes=5-2", "bytes=-", "bytes=a-b", "items=0-1", "bytes", "bytes=1-2-3")
BEYOND = ("bytes={0}-", "bytes={0}-99999999999", "bytes=-0")


@pytest.mark.parametrize("size", [10, INLINE + 7, 2 * JOINED + 5])
def test_ranges(server: Server, size: int) -> None:
    content = os.urandom(size)
    id_ = made(server, content)
    url = f"Binary/{id_}"

    def ask(range_: str, **more: str) -> httpx.Response:
        return server.get(url, headers={"range": range_, **more})

    crossing = {f"bytes={size // 2 - 2}-{size - 3}": (size // 2 - 2, size - 2)}
    for range_, (start, stop) in {**RANGES, **crossing}.items():
        answer = ask(range_)
        piece = content[start:stop]
        assert answer.status_code == 206 and answer.content == piece, range_
        first = size - len(piece) if start < 0 or stop is None else start
        shown = f"bytes {first}-{first + len(piece) - 1}/{size}"
        assert answer.headers["content-range"] == shown
        assert answer.headers["content-length"] == str(len(piece))
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["etag"] == 'W/"1"' and answer.headers["accept-ranges"] == "bytes"
    for range_ in WHOLE:
        answer = ask(range_)
        assert answer.status_code == 200 and answer.content == content
        assert "content-range" not in answer.headers
    for range_ in BEYOND:
        answer = ask(range_.format(size))
        assert answer.status_code == 416 and issue(answer)
        assert answer.headers["content-range"] == f"bytes */{size}"
    assert ask("bytes=0-1", **{"if-range": 'W/"1"'}).status_code == 200
    assert ask("bytes=0-1", **{"if-none-match": 'W/"1"'}).status_code == 304
    assert ask("bytes=0-1", **AS_RESOURCE).status_code == 200
    assert server.get(url + "/_history/1", headers={"range": "bytes=1-2"}).content == content[1:3]
    head = server.send("HEAD", url, headers={"range": "bytes=0-1"})
    assert head.status_code == 200 and head.headers["content-length"] == str(size)
    assert server.get("Patient", headers={"range": "bytes=0-1"}).status_code == 200


def test_update_as_create(server: Server) -> None:
    answer = replaced(server, "own-id", PDF)
    assert answer.status_code == 201 and identity(answer) == "own-id"


# Refusals: 413, 415, 400.


def test_too_large_is_413(tmp_path: Path) -> None:
    for backend in BACKENDS:
        with served(backend, tmp_path / backend, max_content=JOINED) as server:
            assert upload(server, bytes(JOINED)).status_code == 201
            answer = upload(server, bytes(JOINED + 1))
            assert answer.status_code == 413 and issue(answer)["code"] == "too-long"

            async def endless() -> Any:
                for _ in range(20):
                    yield bytes(JOINED // 10)

            answer = server.send(
                "POST", "Binary", content=endless(), headers={"content-type": "a/b"}
            )
            assert answer.status_code == 413


def test_a_resource_has_the_limit_of_resources(tmp_path: Path) -> None:
    with served("memory", tmp_path, max_body=100_000, max_content=1_000_000) as server:
        assert upload(server, bytes(500_000)).status_code == 201
        answer = server.post("Binary", binary(bytes(500_000)))
        assert answer.status_code == 413


@pytest.mark.parametrize(
    "media", ["", "text", "text/html\x0bx", "text/html; charset", 'a/b; c="d', "<script>/x"]
)
def test_a_type_that_is_none(server: Server, media: str) -> None:
    answer = upload(server, media=media)
    assert answer.status_code in (400, 415), answer.text


def test_compressed_content_is_refused(server: Server) -> None:
    assert upload(server, content_encoding="gzip").status_code == 415


def test_a_context_that_is_no_reference(server: Server) -> None:
    answer = upload(server, x_security_context="")
    assert answer.status_code in (400, 422)


def test_query_parameters_are_refused(server: Server) -> None:
    id_ = made(server)
    assert server.get(f"Binary/{id_}?foo=1").status_code == 400


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


def blob_files(server: Server) -> list[Path]:
    root = server.domain.settings.data / "blobs"
    return [p for p in root.rglob("*") if p.is_file() and len(p.name) == 64]


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


# securityContext: who may read what it names may read the Binary, nobody else.


@pytest.fixture
def hospital(secured: Server) -> Server:
    system = secured.bearer("system/*.cruds")
    for id_ in ("p1", "p2"):
        body = {"resourceType": "Patient", "id": id_}
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code == 201
    return secured


def test_c84_raw_as_a_resource_and_by_its_security_context(secured: Server) -> None:
    system = secured.bearer("system/*.cruds")
    for id_ in ("p1", "p2"):
        body = {"resourceType": "Patient", "id": id_}
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code == 201
    id_ = made(secured, x_security_context="Patient/p1", **system)
    url = f"Binary/{id_}"
    mine = secured.bearer("patient/*.rs", patient="p1")
    for accept in ("application/pdf", "*/*", "image/png"):
        raw = secured.get(url, headers=mine | {"accept": accept})
        assert (raw.content, raw.headers["content-type"]) == (PDF, "application/pdf")
    shown = secured.get(url, headers=mine | AS_RESOURCE)
    assert shown.headers["content-type"].startswith(FHIR_JSON) and data(shown.json()) == PDF
    assert shown.json()["securityContext"] == {"reference": "Patient/p1"}
    markup = secured.get(url, headers=mine | {"accept": "application/fhir+xml"})
    assert markup.headers["content-type"].startswith("application/fhir+xml")
    theirs = secured.bearer("patient/*.rs", patient="p2")
    absent = secured.get("Binary/no-such-id", headers=theirs)
    for headers in (theirs, theirs | AS_RESOURCE):
        hidden = secured.get(url, headers=headers)
        assert hidden.status_code == 404
        assert hidden.text.replace(id_, "no-such-id") == absent.text


def test_access_follows_the_security_context(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    mine = made(hospital, x_security_context="Patient/p1", **system)
    others = made(hospital, x_security_context="Patient/p2", **system)
    bare = made(hospital, **system)
    patient = hospital.bearer("patient/*.cruds", patient="p1")
    read = hospital.get(f"Binary/{mine}", headers=patient)
    assert read.content == PDF and read.headers["x-security-context"] == "Patient/p1"
    for id_ in (mine, others, bare):
        assert hospital.get(f"Binary/{id_}", headers=system).status_code == 200
    for url in ("Binary/{}", "Binary/{}/_history", "Binary/{}/_history/1"):
        absent = hospital.get(url.format("no-such-id"), headers=patient)
        assert absent.status_code == 404
        for id_ in (others, bare):
            hidden = hospital.get(url.format(id_), headers=patient)
            assert hidden.status_code == 404
            assert hidden.text.replace(id_, "no-such-id") == absent.text
    assert hospital.get("Binary?_summary=count", headers=patient).json()["total"] == 0


def test_hidden_is_absent_for_writes(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    others = made(hospital, x_security_context="Patient/p2", **system)
    patient = hospital.bearer("patient/*.cruds", patient="p1")
    context = {"x_security_context": "Patient/p1"}
    for id_ in (others, "no-such-id"):
        assert replaced(hospital, id_, b"new", **context, **patient).status_code == 405
        assert hospital.delete(f"Binary/{id_}", headers=patient).status_code == 204
    assert hospital.get(f"Binary/{others}", headers=system).content == PDF


def test_a_patient_writes_only_with_a_context_of_its_own(hospital: Server) -> None:
    patient = hospital.bearer("patient/*.cruds", patient="p1")
    id_ = made(hospital, x_security_context="Patient/p1", **patient)
    assert replaced(hospital, id_, b"2", x_security_context="Patient/p1", **patient).status_code
    assert hospital.get(f"Binary/{id_}", headers=patient).content == b"2"
    for context, status in (("Patient/p2", 422), ("Patient/none", 422), ("http://x/y", 403)):
        assert upload(hospital, x_security_context=context, **patient).status_code == status
        answer = replaced(hospital, id_, b"3", x_security_context=context, **patient)
        assert answer.status_code == status, answer.text
    assert upload(hospital, **patient).status_code == 403
    assert replaced(hospital, id_, b"3", **patient).status_code == 403
    assert hospital.delete(f"Binary/{id_}", headers=patient).status_code == 204
    assert hospital.get(f"Binary/{id_}", headers=patient).status_code == 410


def test_a_lost_target_hides_it(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p1"},
    }
    target = hospital.create(observation, headers=system)
    id_ = made(hospital, x_security_context=f"Observation/{target['id']}", **system)
    patient = hospital.bearer("patient/*.rs", patient="p1")
    assert hospital.get(f"Binary/{id_}", headers=patient).status_code == 200
    narrow = hospital.bearer("patient/Binary.r patient/Patient.r", patient="p1")
    assert hospital.get(f"Binary/{id_}", headers=narrow).status_code == 404
    moved = target | {"subject": {"reference": "Patient/p2"}}
    assert hospital.put(f"Observation/{target['id']}", moved, headers=system).status_code == 200
    assert hospital.get(f"Binary/{id_}", headers=patient).status_code == 404


def test_a_system_of_few_types(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    id_, bare = made(hospital, x_security_context="Patient/p1", **system), made(hospital, **system)
    few = hospital.bearer("system/Binary.cruds")
    assert hospital.get(f"Binary/{id_}", headers=few).status_code == 404
    assert hospital.get(f"Binary/{bare}", headers=few).status_code == 200
    assert hospital.get("Binary?_summary=count", headers=few).json()["total"] == 0
    assert replaced(hospital, id_, b"2", **few).status_code == 403
    assert upload(hospital, **few).status_code == 201
    more = hospital.bearer("system/Binary.r system/Patient.r")
    assert hospital.get(f"Binary/{id_}", headers=more).status_code == 200


def test_a_system_scope_on_a_patient_token_counts_for_nothing(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    hidden = made(hospital, x_security_context="Patient/p2", **system)
    mixed = hospital.bearer("patient/*.rs system/*.rs", patient="p1")
    assert hospital.get(f"Binary/{hidden}", headers=mixed).status_code == 404
    assert hospital.get("Binary?_summary=count", headers=mixed).json()["total"] == 0


def test_includes_do_not_go_around(hospital: Server) -> None:
    system = hospital.bearer("system/*.cruds")
    hidden = made(hospital, x_security_context="Patient/p2", **system)
    list_ = {
        "resourceType": "List",
        "status": "current",
        "mode": "working",
        "subject": {"reference": "Patient/p1"},
        "entry": [{"item": {"reference": f"Binary/{hidden}"}}],
    }
    hospital.create(list_, headers=system)
    seen = hospital.get("List?_include=List:item", headers=system).json()
    assert [e["resource"]["resourceType"] for e in seen["entry"]] == ["List", "Binary"]
    assert seen["entry"][1]["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"
    patient = hospital.bearer("patient/*.rs", patient="p1")
    seen = hospital.get("List?_include=List:item", headers=patient).json()
    assert [e["resource"]["resourceType"] for e in seen["entry"]] == ["List"]


def test_no_token_no_content(hospital: Server) -> None:
    assert upload(hospital).status_code == 401
    assert hospital.get("Binary/x").status_code == 401


def test_scopes_of_other_letters(hospital: Server) -> None:
    reader = hospital.bearer("patient/*.rs", patient="p1")
    assert upload(hospital, x_security_context="Patient/p1", **reader).status_code == 403


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
