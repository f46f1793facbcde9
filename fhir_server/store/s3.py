"""Blobs in an S3-compatible object store: https://docs.aws.amazon.com/AmazonS3/latest/API/

A blob is an object ``ab/<SHA-256>/<time>-<random>`` below the prefix. Every upload is an object
of its own, so that a sweep that removes old ones can never take what has just been stored anew:
no lock is needed between servers. Contents arrive in a spool and are hashed there before
anything is sent, so that an object is whole and under its name, or not there. The address is
the operator's alone; the store's answers lead nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeVar

import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.session import get_session

from fhir_server.config_values import Bucket
from fhir_server.model.problem import Unavailable
from fhir_server.store.blobs import (
    BLOCK,
    DIGEST,
    MAX_BLOB,
    Blob,
    IsReferenced,
    damaged,
    gathered,
    limited,
)
from fhir_server.store.breaker import Breaker

log = structlog.get_logger("vehr.blobs")
T = TypeVar("T")

PART: Final = 8 << 20
"""Bytes that one request sends or fetches; also what a spool keeps in memory. S3 takes parts
from 5 MiB on, 10,000 of them."""
AT_ONCE: Final = 8
"""Requests to the object store of one process."""
LIMITS: Final = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=AT_ONCE,
    signature_version="s3v4",
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    user_agent="vehr",
)
NOT_OFFERED: Final = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
OWNER: Final = "owner"
"""Below the prefix: the object that names the database whose contents these are."""
FAILURES: Final = (BotoCoreError, ClientError, ResponseParserError, KeyError)
"""Also of an answer that is not an object store's, or lacks what it should have."""
MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload"})


class Copy(NamedTuple):
    """One object. ``stored``: epoch seconds, by the clock of who sent it."""

    sha256: str
    stored: float
    key: str
    size: int


def connect(bucket: Bucket) -> Any:
    """A client; nothing is sent yet. Credentials and what the URL leaves open come from AWS's
    variables, files and roles. Raises Unavailable.
    """
    # The signature covers the bytes: the store refuses what changed on the way.
    style = "path" if bucket.endpoint else "auto"
    config = LIMITS.merge(Config(s3={"payload_signing_enabled": True, "addressing_style": style}))
    try:
        return get_session().create_client(
            "s3",
            region_name=bucket.region or ("us-east-1" if bucket.endpoint else None),
            endpoint_url=bucket.endpoint or None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise Unavailable(f"the object store of VEHR_BLOBS is not usable: {error}") from None


class S3Blobs:
    """``spool``: a folder for contents on their way; ``limit``: bytes of one blob; ``clock``:
    epoch seconds.
    """

    shared = True

    def __init__(
        self,
        bucket: Bucket,
        spool: Path,
        limit: int = MAX_BLOB,
        clock: Callable[[], float] = time.time,
        breaker: Breaker | None = None,
    ) -> None:
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bucket, self._prefix = bucket.name, bucket.prefix
        self._client = connect(bucket)
        self._spool = spool
        self._limit = limit
        self._clock = clock
        self._breaker = breaker or Breaker()
        self._threads = ThreadPoolExecutor(AT_ONCE, "s3")

    async def claim(self, owner: str) -> str:
        return await self._call(self._claimed, owner)

    async def put(self, content: AsyncIterator[bytes]) -> Blob:
        digest, size = hashlib.sha256(), 0
        with self._file() as file:
            async for block in gathered(limited(content, self._limit)):
                await asyncio.to_thread(_append, file, digest, block)
                size += len(block)
            blob = Blob(digest.hexdigest(), size)
            key = f"{self._place(blob.sha256)}{int(self._clock() * 1000):013d}-"
            await self._call(self._send, key + secrets.token_hex(8), file, size)
        return blob

    async def read(self, blob: Blob) -> AsyncIterator[bytes]:
        place = self._place(blob.sha256)
        tried: set[str] = set()
        while True:
            # What a sweep has removed meanwhile has a newer copy.
            found = await self._call(lambda: list(self._copies(place)))
            left = [c for c in found if c.size == blob.size and c.key not in tried]
            if not left:
                raise damaged(blob)
            newest = max(left, key=lambda copy: copy.stored)
            tried.add(newest.key)
            file = self._file()
            try:
                if await self._call(self._fetch, newest, file):
                    return _stream(file)
            except BaseException:
                file.close()
                raise
            file.close()

    async def names(self) -> list[str]:
        found = await self._call(lambda: {copy.sha256 for copy in self._copies(self._prefix)})
        return sorted(found)

    async def discard(self, sha256: str, before: float) -> bool:
        place = self._place(sha256)
        copies = await self._call(lambda: list(self._copies(place)))
        for copy in copies:
            if copy.stored < before:
                await self._call(self._remove, copy)
        return all(copy.stored < before for copy in copies)

    async def sweep(self, is_referenced: IsReferenced, before: float) -> int:
        """Also ends uploads that were given up, and removes all but the newest of old copies."""
        swept = int(await self._call(self._given_up, before))
        for sha256, group in await self._call(lambda: self._grouped()):
            copies = sorted(group, key=lambda copy: copy.stored)
            newest = copies[-1]
            old = [copy for copy in copies if copy.stored < before]
            if newest.stored >= before or (old and await is_referenced(sha256)):
                old = [copy for copy in old if copy is not newest]
            elif old:
                swept += 1
            for copy in old:
                await self._call(self._remove, copy)
        return swept

    # --- in a thread ------------------------------------------------------------------

    def _claimed(self, owner: str) -> str:
        """Of two that claim at once the last stands, and the other is told at its next claim."""
        named = {"Bucket": self._bucket, "Key": self._prefix + OWNER}
        try:
            held = self._client.get_object(**named)["Body"].read(1000)
        except ClientError as error:
            if error.response["Error"]["Code"] not in MISSING:
                raise
            self._client.put_object(**named, Body=owner.encode())
            held = self._client.get_object(**named)["Body"].read(1000)
        return str(held.decode("utf-8", "replace"))

    def _send(self, key: str, file: IO[bytes], size: int) -> None:
        file.seek(0)
        if size <= PART:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=file.read())
            return
        named = {"Bucket": self._bucket, "Key": key}
        upload = {**named, "UploadId": self._client.create_multipart_upload(**named)["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            for number in range(1, math.ceil(size / PART) + 1):
                sent = self._client.upload_part(**upload, PartNumber=number, Body=file.read(PART))
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except FAILURES:
            if self._arrived(named, size):
                return  # it was completed, and the answer was lost
            self._abort(upload)
            raise

    def _arrived(self, named: dict[str, Any], size: int) -> bool:
        try:
            return bool(self._client.head_object(**named)["ContentLength"] == size)
        except FAILURES:
            return False

    def _abort(self, upload: dict[str, Any]) -> None:
        """What this leaves, the sweep finds."""
        try:
            self._client.abort_multipart_upload(**upload)
        except FAILURES as error:
            log.warning("an upload is left for the sweep", error=str(error))

    def _fetch(self, copy: Copy, file: IO[bytes]) -> bool:
        """In ranges, each tried again by itself; is it what was stored?"""
        digest = hashlib.sha256()
        for start in range(0, copy.size, PART):
            wanted = f"bytes={start}-{min(start + PART, copy.size) - 1}"
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=copy.key, Range=wanted)
            except ClientError as error:
                if error.response["Error"]["Code"] in MISSING:
                    return False
                raise
            part = answer["Body"].read()
            digest.update(part)
            file.write(part)
        return digest.hexdigest() == copy.sha256

    def _copies(self, place: str) -> Iterator[Copy]:
        """In order of their keys; what is not named by this program is passed over."""
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=place):
            for found in page.get("Contents", ()):
                copy = _copy(found["Key"].removeprefix(self._prefix), found["Key"], found["Size"])
                if copy is not None:
                    yield copy

    def _grouped(self) -> list[tuple[str, list[Copy]]]:
        copies = groupby(self._copies(self._prefix), key=lambda copy: copy.sha256)
        return [(sha256, list(group)) for sha256, group in copies]

    def _remove(self, copy: Copy) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=copy.key)

    def _given_up(self, before: float) -> int:
        try:
            return self._give_up(before)
        except ClientError as error:
            if error.response["Error"]["Code"] not in NOT_OFFERED:
                raise
            log.info("the object store does not list its uploads: give it a rule that ends them")
            return 0

    def _give_up(self, before: float) -> int:
        pages = self._client.get_paginator("list_multipart_uploads")
        given_up = 0
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
            for found in page.get("Uploads", ()):
                key = found["Key"]
                copy = _copy(key.removeprefix(self._prefix), key, 0)
                if copy is not None and copy.stored < before:
                    self._abort({"Bucket": self._bucket, "Key": key, "UploadId": found["UploadId"]})
                    given_up += 1
        return given_up

    # --- on the loop ------------------------------------------------------------------

    async def _call(self, work: Callable[..., T], *given: Any) -> T:
        """Raises Unavailable when the object store does not do it."""
        if not self._breaker.allows():
            raise _unavailable(self._breaker.wait)
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._threads, work, *given)
        except FAILURES as error:
            self._breaker.failed()
            log.error("the object store failed", error=str(error))
            raise _unavailable(self._breaker.wait) from error
        self._breaker.succeeded()
        return done

    def _place(self, sha256: str) -> str:
        if DIGEST.fullmatch(sha256) is None:
            raise ValueError("not a SHA-256")
        return f"{self._prefix}{sha256[:2]}/{sha256}/"

    def _file(self) -> IO[bytes]:
        return tempfile.SpooledTemporaryFile(PART, "w+b", dir=str(self._spool))


def _unavailable(wait: float) -> Unavailable:
    text = "the store of large contents does not answer"
    return Unavailable(text, headers={"Retry-After": str(max(1, math.ceil(wait)))})


def _copy(name: str, key: str, size: int) -> Copy | None:
    folder, _, rest = name.partition("/")
    sha256, _, stored = rest.partition("/")
    millis, _, random = stored.partition("-")
    if not DIGEST.fullmatch(sha256) or folder != sha256[:2]:
        return None
    if not (millis.isascii() and millis.isdigit() and random.isalnum()):
        return None
    return Copy(sha256, int(millis) / 1000, key, size)


def _append(file: IO[bytes], digest: hashlib._Hash, block: bytes) -> None:
    digest.update(block)
    file.write(block)


async def _stream(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block
