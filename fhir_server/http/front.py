"""Which application answers a URL: a FHIR base, a face that is not there yet, or the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fhir_server.http.respond import Asgi, Receive, Scope, Send, deliver, rendered
from fhir_server.model.problem import NotSupported

LATER: Final = frozenset({b"vehr", b"research", b"auth", b"dicom-web", b"cds-services", b"portal"})
"""Prefixes of the design that this server does not serve yet: 501."""


class Front:
    """Dispatches by the first segment of the path, compared as bytes."""

    def __init__(self, bases: Mapping[bytes, Asgi], pages: Asgi) -> None:
        self._bases = bases
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        segment = scope["raw_path"][1:].partition(b"/")[0]
        base = self._bases.get(segment)
        if base is not None:
            await base(scope, receive, send)
        elif segment in LATER:
            problem = NotSupported("this part of the server is not there yet")
            await deliver(rendered(problem), scope, send)
        else:
            await self._pages(scope, receive, send)
