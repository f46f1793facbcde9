"""Binary: raw and as a resource. https://hl7.org/fhir/R4/binary.html"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.access.contents import INLINE
from fhir_server.interactions.binary import JOINED
from tests.interactions.binaries import (
    AS_RESOURCE,
    PDF,
    binary,
    data,
    identity,
    made,
    replaced,
    upload,
)
from tests.serving import BACKENDS, FHIR_JSON, Server, issue, served

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
