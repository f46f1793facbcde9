"""Blobs in an object store: whole or not there, never swept while they are new, and the server
says 503 when the object store is gone. What every kind of blobs does: ``test_blobs.py``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("botocore")

from botocore.exceptions import ClientError

from fhir_server.access.contents import sweep
from fhir_server.access.erasing import settle
from fhir_server.app import opened, serving
from fhir_server.config import Settings, SettingsError, read
from fhir_server.config_values import Bucket
from fhir_server.model.problem import Unavailable
from fhir_server.store.blobs import Blob, Damaged, LocalBlobs, MemoryBlobs
from fhir_server.store.opening import open_blobs
from fhir_server.store.s3 import PART, S3Blobs, connect
from tests.s3 import new_bucket, server, url
from tests.serving import issue, served
from tests.store.objects import DAY, always, keys, never, stream, uploads, whole

PLAIN = {"content-type": "text/plain"}
EVERYTHING = {
    "resourceType": "Parameters",
    "parameter": [{"name": "expungeEverything", "valueBoolean": True}],
}


@pytest.fixture
def bucket() -> Bucket:
    return new_bucket()


@pytest.mark.parametrize("size", [PART, PART + 1, 3 * PART, 2 * PART + 5])
async def test_beyond_a_part_it_goes_in_parts(bucket: Bucket, tmp_path: Path, size: int) -> None:
    blobs = S3Blobs(bucket, tmp_path / "spool")
    content = os.urandom(size)
    blob = await blobs.put(stream(content))
    assert await whole(blobs, blob) == content
    assert uploads(bucket) == 0
    assert list((tmp_path / "spool").iterdir()) == []


async def test_the_name_is_the_content(bucket: Bucket, tmp_path: Path) -> None:
    blobs = S3Blobs(bucket, tmp_path)
    blob = await blobs.put(stream(b"content"))
    assert await blobs.put(stream(b"con", b"tent")) == blob
    assert await blobs.names() == [blob.sha256]
    for key in keys(bucket):
        assert key.startswith(f"{bucket.prefix}{blob.sha256[:2]}/{blob.sha256}/")


@pytest.mark.parametrize("change", [b"c0ntent", b"conten", b""])
async def test_damage_is_found_before_the_first_byte(
    bucket: Bucket, tmp_path: Path, change: bytes
) -> None:
    blobs = S3Blobs(bucket, tmp_path)
    blob = await blobs.put(stream(b"content"))
    [key] = keys(bucket)
    connect(bucket).put_object(Bucket=bucket.name, Key=key, Body=change)
    with pytest.raises(Damaged):
        await blobs.read(blob)
    await blobs.put(stream(b"content"))
    assert await whole(blobs, blob) == b"content"


async def test_an_older_copy_stands_in_for_a_damaged_one(bucket: Bucket, tmp_path: Path) -> None:
    now = [1000.0]
    blobs = S3Blobs(bucket, tmp_path, clock=lambda: now[0])
    blob = await blobs.put(stream(b"content"))
    now[0] += 1
    await blobs.put(stream(b"content"))
    connect(bucket).put_object(Bucket=bucket.name, Key=max(keys(bucket)), Body=b"c0ntent")
    assert await whole(blobs, blob) == b"content"


@pytest.mark.parametrize("name", ["../x", "", "a" * 63, "A" * 64, "a" * 64 + "/"])
async def test_only_digests_are_names(bucket: Bucket, tmp_path: Path, name: str) -> None:
    blobs = S3Blobs(bucket, tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        await blobs.read(Blob(name, 1))
    with pytest.raises(ValueError, match="SHA-256"):
        await blobs.discard(name, time.time())


# --- whose it is ------------------------------------------------------------------------


async def test_a_place_belongs_to_who_claims_it_first(bucket: Bucket, tmp_path: Path) -> None:
    blobs, others = S3Blobs(bucket, tmp_path), S3Blobs(bucket, tmp_path)
    assert await blobs.claim("one") == "one"
    assert await others.claim("two") == "one" and await blobs.claim("one") == "one"
    blob = await blobs.put(stream(b"content"))
    assert await blobs.names() == [blob.sha256]
    assert await blobs.sweep(never, time.time() + DAY) == 1
    assert await others.claim("two") == "one", "the sweep leaves it"
    away = replace(bucket, prefix=f"{bucket.prefix}away/")
    assert await S3Blobs(away, tmp_path).claim("two") == "two"


async def test_a_second_database_does_not_serve_from_the_same_prefix(
    bucket: Bucket, tmp_path: Path
) -> None:
    one = Settings(data=tmp_path / "one", blobs=bucket)
    two = Settings(data=tmp_path / "two", blobs=bucket)
    for _ in range(2):
        async with opened(one) as domain, serving(domain, open_=True):
            pass
    async with opened(two) as domain:
        with pytest.raises(Unavailable, match="another database"):
            async with serving(domain, open_=True):
                pass
        with pytest.raises(Unavailable, match="another database"):
            await sweep(domain.engine, time.time() + DAY)
    connect(bucket).delete_object(Bucket=bucket.name, Key=f"{bucket.prefix}owner")
    async with opened(two) as domain, serving(domain, open_=True):
        pass


# --- sweeping ---------------------------------------------------------------------------


async def test_what_is_stored_anew_during_a_sweep_stays(bucket: Bucket, tmp_path: Path) -> None:
    """The commit that names it may follow."""
    now = [1000.0]
    blobs = S3Blobs(bucket, tmp_path, clock=lambda: now[0])
    blob = await blobs.put(stream(b"content"))
    now[0] += 2 * DAY

    async def meanwhile(_: str) -> bool:
        await blobs.put(stream(b"content"))
        return False

    assert await blobs.sweep(meanwhile, now[0] - DAY) == 1
    assert await whole(blobs, blob) == b"content"
    assert await blobs.sweep(never, now[0] - DAY) == 0


async def test_of_old_copies_the_newest_stays(bucket: Bucket, tmp_path: Path) -> None:
    now = [1000.0]
    blobs = S3Blobs(bucket, tmp_path, clock=lambda: now[0])
    for _ in range(3):
        blob = await blobs.put(stream(b"content"))
        now[0] += 1
    assert await blobs.sweep(always, now[0]) == 0
    assert len(keys(bucket)) == 1 and await whole(blobs, blob) == b"content"


async def test_to_discard_spares_what_is_newer(bucket: Bucket, tmp_path: Path) -> None:
    now = [1000.0]
    blobs = S3Blobs(bucket, tmp_path, clock=lambda: now[0])
    blob = await blobs.put(stream(b"content"))
    now[0] = 2000.0
    await blobs.put(stream(b"content"))
    assert not await blobs.discard(blob.sha256, 1500.0)
    assert len(keys(bucket)) == 1
    assert await blobs.discard(blob.sha256, 2500.0)
    assert keys(bucket) == [] and await blobs.discard(blob.sha256, 2500.0)


async def test_foreign_objects_are_left_alone(bucket: Bucket, tmp_path: Path) -> None:
    client = connect(bucket)
    digest = "ab" + "0" * 62
    foreign = ("notes.txt", f"ab/{digest}", f"cd/{digest}/1-a", f"ab/{digest}/x-1", "ab/x/1-a")
    for name in foreign:
        client.put_object(Bucket=bucket.name, Key=bucket.prefix + name, Body=b"x")
    blobs = S3Blobs(bucket, tmp_path)
    assert await blobs.names() == []
    assert await blobs.sweep(never, time.time() + DAY) == 0
    assert len(keys(bucket)) == len(foreign)


async def test_uploads_that_were_given_up_are_swept(bucket: Bucket, tmp_path: Path) -> None:
    client, digest = connect(bucket), "ab" + "0" * 62
    named = {"Bucket": bucket.name, "Key": f"{bucket.prefix}ab/{digest}/0000001000000-aa"}
    started = client.create_multipart_upload(**named)
    client.upload_part(**named, UploadId=started["UploadId"], PartNumber=1, Body=b"half")
    blobs = S3Blobs(bucket, tmp_path)
    assert await blobs.sweep(never, 999.0) == 0 and uploads(bucket) == 1
    assert await blobs.sweep(never, 1001.0) == 1 and uploads(bucket) == 0


async def test_a_store_that_does_not_list_uploads_is_swept(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of those that speak S3 do not; another refusal is a failure."""
    blobs = S3Blobs(bucket, tmp_path)
    await blobs.put(stream(b"content"))
    code = ["AccessDenied"]

    def refused(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": code[0]}}, "ListMultipartUploads")

    monkeypatch.setattr(blobs, "_give_up", refused)
    with pytest.raises(Unavailable):
        await blobs.sweep(never, time.time() + DAY)
    code[0] = "NotImplemented"
    assert await blobs.sweep(never, time.time() + DAY) == 1


async def test_one_prefix_does_not_see_another(bucket: Bucket, tmp_path: Path) -> None:
    one, two = S3Blobs(bucket, tmp_path), S3Blobs(new_bucket(), tmp_path)
    blob = await one.put(stream(b"content"))
    assert await two.names() == []
    assert await two.sweep(never, time.time() + DAY) == 0
    assert await whole(one, blob) == b"content"


# --- faults -----------------------------------------------------------------------------

KILLED = """
    import asyncio, os, pathlib, sys
    from fhir_server.config_values import as_bucket
    from fhir_server.store import s3
    blobs = s3.S3Blobs(as_bucket(sys.argv[1]), pathlib.Path(sys.argv[2]))
    async def content():
        yield bytes(3 * s3.PART)
    sent = blobs._client.upload_part
    def upload_part(**given):
        if given["PartNumber"] == 3:
            os.kill(os.getpid(), 9)
        return sent(**given)
    blobs._client.upload_part = upload_part
    asyncio.run(blobs.put(content()))
"""


def test_killed_in_the_middle_of_an_upload(bucket: Bucket, tmp_path: Path) -> None:
    """Nothing has the name; what was sent is swept."""
    spool = tmp_path / "spool"
    code = textwrap.dedent(KILLED)
    done = subprocess.run([sys.executable, "-c", code, url(bucket), str(spool)], timeout=120)
    assert done.returncode == -9
    blobs = S3Blobs(bucket, spool)
    assert asyncio.run(blobs.names()) == [] and uploads(bucket) == 1
    assert list(spool.iterdir()) == []
    assert asyncio.run(blobs.sweep(always, time.time() + DAY)) == 1
    assert uploads(bucket) == 0


# --- below a server ---------------------------------------------------------------------


def test_a_server_keeps_large_contents_there(bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(PART + 1)
    with served("sqlite", tmp_path, blobs=bucket) as server:
        made = server.send("POST", "Binary", content=content, headers=PLAIN)
        assert made.status_code == 201 and len(keys(bucket)) == 1
        place = made.headers["location"].partition("/_history")[0]
        assert server.get(place, headers={"accept": "text/plain"}).content == content
        assert not (tmp_path / "blobs").exists()
        key = keys(bucket)[0]
        connect(bucket).put_object(Bucket=bucket.name, Key=key, Body=content[:-1])
        answer = server.get(place, headers={"accept": "text/plain"})
        assert answer.status_code == 500 and content[:100] not in answer.content
        assert server.post(f"{place}/$expunge", EVERYTHING).status_code == 200
        assert keys(bucket) == []


def test_without_its_object_store_a_server_says_503(bucket: Bucket, tmp_path: Path) -> None:
    """To contents alone; what was erased meanwhile is removed there later."""
    closed = replace(bucket, endpoint="http://127.0.0.1:9")
    with served("sqlite", tmp_path, blobs=bucket) as server:
        place = server.send("POST", "Binary", content=bytes(100_000), headers=PLAIN)
        kept = server.send("POST", "Binary", content=b"x" * 100_000, headers=PLAIN)
        gone, there = (a.headers["location"].partition("/_history")[0] for a in (place, kept))
    with served("sqlite", tmp_path, blobs=closed) as server:
        read = server.get(there, headers={"accept": "text/plain"})
        written = server.send("POST", "Binary", content=bytes(100_000), headers=PLAIN)
        for answer in (read, written):
            assert answer.status_code == 503 and answer.headers["retry-after"]
            assert issue(answer)["code"] == "transient"
        assert server.post("Patient", {"resourceType": "Patient"}).status_code == 201
        erased = server.post(f"{gone}/$expunge", EVERYTHING)
        assert erased.status_code == 503 and "erased, but" in issue(erased)["diagnostics"]
        assert server.get(gone).status_code == 404
    assert len(keys(bucket)) == 2
    with served("sqlite", tmp_path, blobs=bucket) as server:
        while not server.run(settle(server.domain.engine)):  # beside the server's own
            time.sleep(0.05)
        assert len(keys(bucket)) == 1
        assert server.get(there, headers={"accept": "text/plain"}).content == b"x" * 100_000


# --- the setting ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket", Bucket("bucket")),
        ("s3://bucket/", Bucket("bucket")),
        ("s3://bucket/a/b", Bucket("bucket", "a/b/")),
        (
            "s3://bucket/a?endpoint=https://minio:9000&region=eu-central-1",
            Bucket("bucket", "a/", "https://minio:9000", "eu-central-1"),
        ),
    ],
)
def test_the_setting_is_read(text: str, expected: Bucket) -> None:
    assert read({"VEHR_BLOBS": text}).blobs == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bucket",
        "http://bucket",
        "s3://",
        "s3:///prefix",
        "s3://user:secret@bucket",
        "s3://Bucket",
        "s3://bucket/../x",
        "s3://bucket/a b",
        "s3://bucket?endpoint=ftp://x",
        "s3://bucket?endpoint=http://user:secret@x",
        "s3://bucket?endpoint=http://a&endpoint=http://b",
        "s3://bucket?key=secret",
        "s3://bucket?endpoint",
        "s3://bucket#x",
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read({"VEHR_BLOBS": text})
    assert "VEHR_BLOBS" in str(raised.value) and "secret@" not in str(raised.value)


def test_the_setting_says_where_blobs_lie(tmp_path: Path) -> None:
    bucket = new_bucket()
    assert isinstance(open_blobs(Settings(data=tmp_path, blobs=bucket)), S3Blobs)
    assert isinstance(open_blobs(Settings(data=tmp_path)), LocalBlobs)
    assert isinstance(open_blobs(Settings(data=tmp_path, store="memory:")), MemoryBlobs)
    with pytest.raises(Unavailable, match="VEHR_BLOBS"):
        open_blobs(Settings(data=tmp_path, store="memory:", blobs=bucket))


def test_without_the_client_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fhir_server.store.s3", None)
    with pytest.raises(Unavailable, match=r"vehr\[s3\]"):
        open_blobs(Settings(data=tmp_path, blobs=server()))
