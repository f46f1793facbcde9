"""Content-Encoding, both ways: https://hl7.org/fhir/R4/http.html#compression

gzip and deflate (RFC 9110 8.4.1). What comes in is bounded while it is inflated, so that a bomb
costs no more than a body of the greatest size; what goes out is compressed if it is large.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Mapping
from typing import Final

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


async def compressed(response: Response, accepted: str | None, above: int) -> Response:
    """The answer in gzip, if it is larger than ``above`` bytes and the client takes that."""
    body = response.body
    if not isinstance(body, bytes) or len(body) <= above or not above or not _takes(accepted):
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


def _takes(accepted: str | None) -> bool:
    """Does an Accept-Encoding header allow gzip?"""
    for part in (accepted or "").lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
