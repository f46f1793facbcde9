"""A part of raw content: https://www.rfc-editor.org/rfc/rfc9110#name-range-requests

One range of bytes is served. Several at once are answered by the whole, as a server may, so
that they cost no more than that; and so is ``If-Range``, which wants a strong validator, while
the ETags of FHIR are weak.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from fhir_server.model.exchange import Request
from fhir_server.model.problem import RangeNotSatisfiable

_ONE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.ASCII | re.IGNORECASE)


class Range(NamedTuple):
    """Bytes ``start`` (counted from 0) up to but without ``stop`` of ``size``."""

    start: int
    stop: int
    size: int

    @property
    def header(self) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def asked(request: Request, size: int) -> Range | None:
    """The part that a GET asks for; None: the whole. RangeNotSatisfiable beyond the end."""
    header = request.headers.get("range")
    if header is None or request.method != "GET" or "if-range" in request.headers:
        return None
    match = _ONE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        start, stop = size - min(int(match[2]), size), size
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None  # not a valid range, so as if it were not there
    if start >= stop:
        text = f"the content has {size} bytes"
        raise RangeNotSatisfiable(text, headers={"Content-Range": f"bytes */{size}"})
    return Range(start, stop, size)


async def part(content: AsyncIterator[bytes], wanted: Range) -> AsyncIterator[bytes]:
    """The bytes of the range out of the whole."""
    place = 0
    async for block in content:
        if place >= wanted.stop:
            return
        piece = block[max(wanted.start - place, 0) : wanted.stop - place]
        place += len(block)
        if piece:
            yield piece
