"""What the tests of the object store share."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fhir_server.config_values import Bucket
from fhir_server.store.blobs import Blob
from fhir_server.store.s3 import S3Blobs, connect

DAY = 86_400.0


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def whole(blobs: S3Blobs, blob: Blob) -> bytes:
    return b"".join([part async for part in await blobs.read(blob)])


async def never(_: str) -> bool:
    return False


async def always(_: str) -> bool:
    return True


def keys(bucket: Bucket) -> list[str]:
    """Of contents: not the object that names their owner."""
    found = connect(bucket).list_objects_v2(Bucket=bucket.name, Prefix=bucket.prefix)
    named = [item["Key"] for item in found.get("Contents", ())]
    return [key for key in named if key != f"{bucket.prefix}owner"]


def uploads(bucket: Bucket) -> int:
    client = connect(bucket)
    found = client.list_multipart_uploads(Bucket=bucket.name, Prefix=bucket.prefix)
    return len(found.get("Uploads", ()))
