"""The one way out: documents from addresses that administrators registered.

https only, one resolution whose addresses are all judged and one of which is connected to, no
redirects, no credentials, few bytes, little time. The address is judged, never its text
(``2130706433`` and ``::ffff:127.0.0.1`` are 127.0.0.1).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

LARGEST: Final = 65_536
SECONDS: Final = 2
HEADERS: Final = 16_384
_EMBEDDING: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
"""IPv6 that stands for IPv4 addresses."""


class OutboundError(Exception):
    """The document cannot be had; the text is for the operator."""


class Refusal(OutboundError):
    """It was reached and does not give the document."""


@dataclass(frozen=True, slots=True)
class Document:
    """``max_age``: seconds for which it may be kept, 0 if nothing is said."""

    content: Any
    max_age: int


def is_public(address: str) -> bool:
    """Is it an address of the internet, and nothing of this machine or network?"""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.sixtofour or found.teredo or any(found in net for net in _EMBEDDING):
            return False
    return found.is_global and not found.is_multicast


class Outbound:
    """``loopback``: whether this machine itself may be asked, also by http; for tests.
    ``inside``: hosts that may lie in this network, by https. ``largest``: bytes of an answer.
    """

    def __init__(
        self,
        *,
        loopback: bool = False,
        inside: Collection[str] = (),
        largest: int = LARGEST,
        seconds: float = SECONDS,
    ) -> None:
        self._loopback = loopback
        self._inside = frozenset(inside)
        self._largest = largest
        self._seconds = seconds

    async def get_json(self, url: str) -> Document:
        """Raises OutboundError."""
        return await self._asked(url, "GET", {}, b"")

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> Document:
        """The JSON that a form is answered with. Raises OutboundError."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._asked(url, "POST", {**kind, **headers}, urlencode(form).encode())

    async def post_fhir(self, url: str, body: bytes) -> Any:
        """The JSON that FHIR JSON is answered with. Raises OutboundError."""
        kind = {"Content-Type": "application/fhir+json"}
        return (await self._asked(url, "POST", kind, body)).content

    async def _asked(
        self, url: str, method: str, headers: Mapping[str, str], body: bytes
    ) -> Document:
        length = {"Content-Length": str(len(body))} if body else {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **length}.items())
        try:
            async with asyncio.timeout(self._seconds):
                data = await self._fetched(urlsplit(url), method, lines, body)
                return _document(data, self._largest)
        except TimeoutError:
            raise OutboundError("it took too long") from None
        except (OSError, ValueError, HTTPException) as error:
            raise OutboundError(f"it cannot be read: {type(error).__name__}") from None

    async def _fetched(self, url: SplitResult, method: str, lines: str, body: bytes) -> bytes:
        secure = url.scheme == "https"
        if not url.hostname or url.username or (not secure and url.scheme != "http"):
            raise OutboundError("it is not an https URL")
        port = url.port or (443 if secure else 80)
        address = await self._address(url.hostname, port, secure=secure)
        context = ssl.create_default_context() if secure else None
        name = url.hostname if secure else None
        reader, writer = await asyncio.open_connection(
            address, port, ssl=context, server_hostname=name, limit=HEADERS
        )
        try:
            place = (url.path or "/") + (f"?{url.query}" if url.query else "")
            host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
            host += f":{url.port}" if url.port else ""
            writer.write(
                f"{method} {place} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n"
                f"Accept-Encoding: identity\r\n{lines}Connection: close\r\n\r\n".encode("ascii")
                + body
            )
            return await _at_most(reader, self._largest + HEADERS)
        finally:
            writer.close()

    async def _address(self, host: str, port: int, *, secure: bool) -> str:
        """The address to connect to. All that the name has must be allowed."""
        loop = asyncio.get_running_loop()
        rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(row[4][0]) for row in rows]
        for address in addresses:
            own = ipaddress.ip_address(address.partition("%")[0]).is_loopback
            allowed = is_public(address) or (host in self._inside and not own)
            if not (self._loopback and own) and not (secure and allowed):
                raise OutboundError("its address is not one of the internet, or it is not https")
        if not addresses:
            raise OutboundError("its name has no address")
        return addresses[0]


async def _at_most(reader: asyncio.StreamReader, size: int) -> bytes:
    parts, left = [], size
    while part := await reader.read(min(left + 1, 16_384)):
        left -= len(part)
        if left < 0:
            raise OutboundError("it is too large")
        parts.append(part)
    return b"".join(parts)


class _Received:
    """What HTTPResponse reads from instead of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)


def _document(data: bytes, largest: int) -> Document:
    response = HTTPResponse(_Received(data))  # type: ignore[arg-type]
    response.begin()
    if response.status != 200:
        raise Refusal(f"it answers {response.status}")
    body = response.read(largest + 1)
    if len(body) > largest:
        raise OutboundError("it is too large")
    found = re.search(r"max-age=(\d{1,9})", response.getheader("Cache-Control") or "")
    return Document(json.loads(body), int(found[1]) if found else 0)
