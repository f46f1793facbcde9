"""What the faces beside FHIR share: rows of URLs that stand for operations of a FHIR base."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Protocol, TypeVar
from urllib.parse import unquote

from fhir_server.formats.json import dumps
from fhir_server.http.respond import Message, Receive, Scope
from fhir_server.model.problem import MethodNotAllowed, NotFound


class FacedUrl(Protocol):
    """``pattern``: below the face; what it captures becomes a parameter of an operation."""

    @property
    def method(self) -> str: ...

    @property
    def pattern(self) -> str: ...


U = TypeVar("U", bound=FacedUrl)


def found(urls: Iterable[U], scope: Scope) -> tuple[U, dict[str, str]]:
    """The row of a URL and what it captures. Raises NotFound, MethodNotAllowed."""
    segments = scope["raw_path"].decode("latin-1").strip("/").split("/")[1:]
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    fitting = [
        (url, captured)
        for url in urls
        if (captured := _captured(url.pattern, segments)) is not None
    ]
    if not fitting:
        raise NotFound("this URL is not known")
    for url, captured in fitting:
        if url.method == method:
            return url, captured
    allow = ", ".join(sorted({url.method for url, _ in fitting}))
    raise MethodNotAllowed(f"{method} is not known here", headers={"Allow": allow})


def _captured(pattern: str, segments: list[str]) -> dict[str, str] | None:
    """What stands for the names of a pattern; None if the URL is not of it."""
    parts = pattern.split("/") if pattern else []
    if len(parts) != len(segments):
        return None
    pairs = list(zip(parts, segments, strict=True))
    if any(part != segment for part, segment in pairs if part[:1] != "{"):
        return None
    return {part[1:-1]: unquote(segment) for part, segment in pairs if part[:1] == "{"}


def as_binary(receive: Receive, media: str) -> Receive:
    """The body as the Binary that an operation takes, as it comes."""
    head = dumps({"resourceType": "Binary", "contentType": media})[:-1] + b',"data":"'
    rest = b""

    async def encoded() -> Message:
        nonlocal head, rest
        message = await receive()
        if message["type"] != "http.request":
            return message
        data, more = rest + message.get("body", b""), message.get("more_body", False)
        cut = len(data) - len(data) % 3 if more else len(data)
        rest = data[cut:]
        body, head = head + b64encode(data[:cut]) + (b"" if more else b'"}'), b""
        return {**message, "body": body}

    return encoded
