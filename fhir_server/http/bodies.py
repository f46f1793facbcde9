"""Bodies between the wire and resources: https://hl7.org/fhir/R4/http.html#mime-type

Everything inside is JSON. XML becomes JSON when it comes in and is made from JSON when it
goes out; a patch document becomes the resource that carries it in a Bundle.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fhir_server.definitions.registry import Definitions
from fhir_server.formats import json, xml
from fhir_server.formats.xml_pretty import indented
from fhir_server.http.negotiate import PATCHES, RESOURCES, XML, content_type
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import NotAcceptable

FHIR_XML: Final = "application/fhir+xml; charset=utf-8"
OWN: Final = json.Limits(body=1 << 30, depth=256, string=1 << 30, array=1 << 24)
"""What this server wrote itself is not limited by what it takes from others."""

REBUILT: Final = 1 << 25
"""Bytes of a streamed answer up to which it is rebuilt as XML or indented."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """Reads and writes the formats of resources. ``limits``: of bodies that come in."""

    definitions: Definitions
    limits: json.Limits

    def resource(self, header: str | None, data: bytes) -> Json:
        """The resource in a body. ``header``: its Content-Type."""
        if content_type(header, RESOURCES) in XML:
            return xml.loads(data, self.definitions, self.limits)
        return json.loads(data, self.limits)

    def patch(self, header: str | None, data: bytes) -> Json:
        """Parameters for a FHIRPath Patch; for JSON Patch and XML Patch a Binary that holds it."""
        media = content_type(header, PATCHES)
        if media in RESOURCES:
            return self.resource(header, data)
        return {
            "resourceType": "Binary",
            "contentType": media,
            "data": b64encode(data).decode(),
        }

    async def as_xml(self, response: Response, *, indent: bool) -> Response:
        """The same answer in XML; what is no resource stays as it is."""
        body = await _whole(response)
        if body:
            response.body = xml.dumps(json.loads(body, OWN), self.definitions)
            response.content_type = FHIR_XML
            if indent:
                response.body = indented(response.body)
        return response

    async def prettified(self, response: Response) -> Response:
        """The same answer indented for people (``_pretty``)."""
        body = await _whole(response)
        if body:
            response.body = json.dumps_pretty(json.loads(body, OWN))
        return response


async def _whole(response: Response) -> bytes:
    """The resource of an answer in one piece; empty if it is none."""
    if not response.content_type.startswith("application/fhir+json"):
        return b""
    if isinstance(response.body, bytes):
        return response.body
    response.headers.pop("Content-Length", None)
    return await _joined(response.body)


async def _joined(stream: AsyncIterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        parts.append(part)
        size += len(part)
        if size > REBUILT:
            raise NotAcceptable("too large to be rebuilt: ask for application/fhir+json")
    return b"".join(parts)
