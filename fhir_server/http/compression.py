"""Content-Encoding, both ways: https://hl7.org/fhir/R4/http.html#compression

gzip and deflate (RFC 9110 8.4.1). What comes in is bounded while it is inflated, so that a bomb
costs no more than a body of the greatest size; what goes out is compressed if it is large. Files
of NDJSON are compressed as they go, in gzip or zstd (RFC 8878).
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

import zstandard

from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest, TooLarge, UnsupportedMediaType

WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": 15}
"""zlib's parameter for each encoding that is understood."""

LEVEL: Final = 1
"""Of answers: JSON shrinks to a tenth at once, more costs much and gains little."""

ASIDE: Final = 1 << 18
"""Bytes of an answer beyond which it is compressed beside the loop."""


def encoding(headers: Mapping[str, str]) -> str:
    """The Content-Encoding of a body, "" for none. Raises UnsupportedMediaType."""
    name = headers.get("content-encoding", "").strip().lower()
    if name in ("", "identity"):
        return ""
    if name not in WINDOWS:
        known = {"Accept-Encoding": "gzip, deflate"}
        raise UnsupportedMediaType(f"the encoding {name[:40]!r} is not supported", headers=known)
    return name


def inflated(name: str, data: bytes, limit: int) -> bytes:
    """A body as it was before; TooLarge over ``limit`` bytes, BadRequest if it is broken."""
    stream = zlib.decompressobj(WINDOWS[name])
    try:
        content = stream.decompress(data, limit + 1)
    except zlib.error:
        raise BadRequest(f"the body is not {name}") from None
    if len(content) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise BadRequest(f"the body is not one whole {name} stream")
    return content


NDJSON: Final = "application/fhir+ndjson"
"""What is streamed and worth compressing; other streams are contents, often compressed already."""


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


async def compressed(response: Response, accepted: str | None, above: int) -> Response:
    """The answer in gzip, if it is larger than ``above`` bytes and the client takes that."""
    body = response.body
    if not isinstance(body, bytes):
        return _streamed(response, body, accepted) if above else response
    if len(body) <= above or not above or "gzip" not in _taken(accepted):
        return response
    if len(body) > ASIDE:
        response.body = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
    else:
        response.body = gzip.compress(body, LEVEL, mtime=0)
    response.headers = {
        **response.headers,
        "Content-Encoding": "gzip",
        "Vary": "Accept-Encoding",
    }
    return response


def _streamed(response: Response, body: AsyncIterator[bytes], accepted: str | None) -> Response:
    """A file in the encoding that the client takes, if that is one of ours."""
    if response.content_type != NDJSON:
        return response
    taken = _taken(accepted)
    name = next((name for name in ("zstd", "gzip") if name in taken), "")
    response.headers = {**response.headers, "Vary": "Accept-Encoding"}
    if name:
        response.headers["Content-Encoding"] = name
        response.body = _flowing(body, _compressor(name))
    return response


def _compressor(name: str) -> Compressor:
    if name == "zstd":
        return zstandard.ZstdCompressor(level=LEVEL).compressobj()
    return zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOWS["gzip"])


async def _flowing(body: AsyncIterator[bytes], compressor: Compressor) -> AsyncIterator[bytes]:
    async for chunk in body:
        if some := await asyncio.to_thread(compressor.compress, chunk):
            yield some
    yield await asyncio.to_thread(compressor.flush)


def _taken(accepted: str | None) -> frozenset[str]:
    """The encodings that an Accept-Encoding header allows by name."""
    found: set[str] = set()
    for part in (accepted or "").lower().split(","):
        name, _, quality = part.partition(";")
        if quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            found.add(name.strip())
    return frozenset(found)
