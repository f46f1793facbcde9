"""Blobs in a directory and in memory: named by content, durable, checked, swept."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fhir_server.model.problem import TooLarge
from fhir_server.store.blobs import BLOCK, Blob, Blobs, Damaged, LocalBlobs, MemoryBlobs
from tests.s3 import new_bucket

LIMIT = 3 * BLOCK
Make = Callable[[], Blobs]


def in_s3(tmp_path: Path) -> Blobs:
    bucket = new_bucket()
    from fhir_server.store.s3 import S3Blobs

    return S3Blobs(bucket, tmp_path / "spool", LIMIT)


KINDS: dict[str, Callable[[Path], Blobs]] = {
    "local": lambda tmp_path: LocalBlobs(tmp_path / "blobs", LIMIT),
    "memory": lambda _: MemoryBlobs(LIMIT),
    "s3": in_s3,
}


@pytest.fixture(params=KINDS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return KINDS[request.param](tmp_path)


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def put(blobs: Blobs, *parts: bytes) -> Blob:
    return asyncio.run(blobs.put(stream(*parts)))


def read(blobs: Blobs, blob: Blob) -> bytes:
    async def whole() -> bytes:
        return b"".join([part async for part in await blobs.read(blob)])

    return asyncio.run(whole())


def files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and p.name != "lock")


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, LIMIT])
def test_what_goes_in_comes_out(blobs: Blobs, size: int) -> None:
    content = os.urandom(size)
    blob = put(blobs, content[: size // 3], b"", content[size // 3 :])
    assert blob == Blob(hashlib.sha256(content).hexdigest(), size)
    assert read(blobs, blob) == content


def test_a_size_beyond_the_limit_is_refused_and_leaves_nothing(
    blobs: Blobs, tmp_path: Path
) -> None:
    with pytest.raises(TooLarge):
        put(blobs, bytes(LIMIT), b"x")
    assert asyncio.run(blobs.names()) == [] and files(tmp_path) == []


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(2 * BLOCK)
        raise ConnectionError

    blobs = LocalBlobs(tmp_path)
    with pytest.raises(ConnectionError):
        asyncio.run(blobs.put(broken()))
    assert files(tmp_path) == []


def test_equal_contents_are_one_file(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    assert put(blobs, b"same") == put(blobs, b"sa", b"me")
    assert len(files(tmp_path)) == 1


def test_it_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync of the file, then the name, then fsync of the directories."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def kind(file: int) -> str:
        return "directory" if os.path.isdir(f"/proc/self/fd/{file}") else "file"

    blobs = LocalBlobs(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda f: (calls.append(kind(f)), fsync(f))[1])
    monkeypatch.setattr(os, "replace", lambda *a, **k: (calls.append("name"), rename(*a, **k))[1])
    put(blobs, b"content")
    assert calls == ["file", "name", "directory", "directory"]


@pytest.mark.parametrize("place", [0, BLOCK, 2 * BLOCK - 1])
def test_a_flipped_bit_is_found_before_the_first_byte(tmp_path: Path, place: int) -> None:
    blobs = LocalBlobs(tmp_path)
    blob = put(blobs, bytes(2 * BLOCK))
    [file] = files(tmp_path)
    damaged = bytearray(file.read_bytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(Damaged) as raised:
        asyncio.run(blobs.read(blob))
    assert raised.value.blob == blob


def test_a_missing_or_short_file_is_damage(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blob = put(blobs, b"content")
    [file] = files(tmp_path)
    file.write_bytes(b"conten")
    with pytest.raises(Damaged):
        asyncio.run(blobs.read(blob))
    file.unlink()
    with pytest.raises(Damaged):
        asyncio.run(blobs.read(blob))


def test_storing_it_again_heals(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blob = put(blobs, b"content")
    [file] = files(tmp_path)
    file.write_bytes(b"c0ntent")
    put(blobs, b"content")
    assert read(blobs, blob) == b"content"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "incoming/x", "", "a" * 63, "A" * 64, "a" * 64 + "\n", "lock"]
)
def test_only_digests_are_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        asyncio.run(LocalBlobs(tmp_path).read(Blob(name, 1)))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    blob = put(blobs, b"content")
    [file] = files(tmp_path)
    outside = tmp_path / "outside"
    outside.write_bytes(b"content")
    file.unlink()
    file.symlink_to(outside)
    with pytest.raises(Damaged):
        asyncio.run(blobs.read(blob))


async def nothing(_: str) -> bool:
    return False


def test_orphans_are_swept_when_they_are_old(blobs: Blobs) -> None:
    kept, orphan = put(blobs, b"kept"), put(blobs, b"orphan")

    async def named(sha256: str) -> bool:
        return sha256 == kept.sha256

    assert asyncio.run(blobs.sweep(nothing, time.time() - 60)) == 0
    assert asyncio.run(blobs.sweep(named, time.time() + 60)) == 1
    assert asyncio.run(blobs.names()) == [kept.sha256]
    with pytest.raises(Damaged):
        asyncio.run(blobs.read(orphan))


def test_what_is_stored_anew_during_a_sweep_stays(tmp_path: Path) -> None:
    """The commit that names it may follow."""
    blobs = LocalBlobs(tmp_path)
    blob = put(blobs, b"content")
    [file] = files(tmp_path)
    os.utime(file, (0, 0))

    async def slow(_: str) -> bool:
        await blobs.put(stream(b"content"))
        return False

    assert asyncio.run(blobs.sweep(slow, time.time() - 60)) == 0
    assert read(blobs, blob) == b"content"


def test_uploads_that_a_crash_left_are_swept(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    left = tmp_path / "incoming" / "0123"
    left.write_bytes(b"half")
    assert asyncio.run(blobs.sweep(nothing, time.time() - 60)) == 0
    os.utime(left, (0, 0))
    assert asyncio.run(blobs.sweep(nothing, time.time() - 60)) == 1
    assert files(tmp_path) == []
