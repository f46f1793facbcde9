"""Bundles assembled from stored bytes: https://hl7.org/fhir/R4/bundle.html

Resources are spliced in as they are stored, never parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Stored


def bundle(
    type_: str,
    entries: Sequence[bytes],
    *,
    total: int | None = None,
    links: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The bytes of a Bundle; ``entries`` are finished Bundle.entry objects."""
    head: Json = {"resourceType": "Bundle", "type": type_}
    if total is not None:
        head["total"] = total
    shown = [{"relation": relation, "url": url} for relation, url in links]
    if shown:
        head["link"] = shown
    start = dumps(head)[:-1]
    if not entries:
        return start + b"}"
    return b"".join((start, b',"entry":[', b",".join(entries), b"]}"))


def search_entry(base: bytes, stored: Stored, mode: bytes) -> bytes:
    """One entry of a searchset. ``base``: the encoded base URL; ``mode``: match, include."""
    type_, id_ = stored.key
    return b"".join(
        (
            b'{"fullUrl":"',
            base,
            f'/{type_}/{id_}","resource":'.encode(),
            stored.body,
            b',"search":{"mode":"',
            mode,
            b'"}}',
        )
    )


def entry(full_url: str | None, body: bytes, parts: Json) -> bytes:
    """One entry: its fullUrl, the resource's bytes (if any) and further members."""
    head = dumps({"fullUrl": full_url} if full_url else {})[1:-1]
    resource = b'"resource":' + body if body else b""
    rest = dumps(parts)[1:-1]
    return b"{" + b",".join(piece for piece in (head, resource, rest) if piece) + b"}"
