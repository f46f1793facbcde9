"""Sans-IO HTTP exchange: what a handler takes and what it gives.

A handler is ``async (Request, Session) -> Response``; the HTTP layer turns bytes on a
socket into a Request and a Response into bytes, tests build and read them directly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
"""A FHIR resource or element: plain dicts, lists, str, bool, int and Decimal (never float)."""


@dataclass(slots=True)  # frozen, it would cost a microsecond more
class Request:
    """One FHIR request, already routed and negotiated, its body parsed once.

    ``path``: the captured path segments, for example ``("Patient", "1", "2")`` for a vread.
    ``query``: decoded name/value pairs in the client's order (URL, then form body).
    ``headers``: lower-case names. ``body``: the parsed resource, if the verb takes one.
    ``content``: the body as it comes, when it is not a FHIR format (Binary). ``raw``: the
    answer may be the content of a Binary as it is.
    ``base``: the configured base URL of this face, without a trailing slash.
    """

    method: str
    path: tuple[str, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    base: str = "http://127.0.0.1:8080/fhir"
    request_id: str = ""
    content: AsyncIterator[bytes] | None = None
    raw: bool = False

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


@dataclass(slots=True)
class Response:
    """One answer. ``body`` are the final bytes of the resource, or a stream of them.

    ``updated``: when the version that the answer is about was written (microseconds since the
    epoch), for the entry of a batch, which says it more finely than Last-Modified.
    """

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/fhir+json; charset=utf-8"
    updated: int | None = None
