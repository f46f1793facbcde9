"""``/models``: the registry of models under short URLs, for tools that speak no FHIR.

Each URL is an operation of the FHIR base (``operations/model_registry.py``), answered by it: the
same gate, the same audit. A zip or tar archive may be the body of a push as it is.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from fhir_server.formats.json import dumps
from fhir_server.http.middleware import HEADERS
from fhir_server.http.respond import Asgi, Message, Receive, Scope, Send, deliver, rendered
from fhir_server.model.problem import MethodNotAllowed, NotFound, Problem

ARCHIVES: Final = frozenset(
    {"application/zip", "application/x-tar", "application/gzip", "application/x-gtar"}
    | {"application/octet-stream", "application/x-zip-compressed", "application/x-gzip"}
)


@dataclass(frozen=True, slots=True)
class ModelUrl:
    """``pattern``: below ``/models``; what it captures becomes a parameter of ``operation``."""

    method: str
    pattern: str
    operation: str
    description: str


URLS: Final = (
    ModelUrl("GET", "", "models", "The models, their versions and aliases"),
    ModelUrl("POST", "", "model-push", "A version more, from an archive"),
    ModelUrl("GET", "{model}", "models", "One model with its card"),
    ModelUrl("GET", "{model}/monitor", "model-monitor", "How its versions do in use"),
    ModelUrl("POST", "{model}/activate", "model-activate", "Put a version behind an alias"),
    ModelUrl("POST", "{model}/rollback", "model-rollback", "Back to the version before"),
    ModelUrl("POST", "{model}/retire", "model-retire", "Take a version out of use"),
)


class ModelFace:
    """``base``: the FHIR base, at ``path`` (``/fhir``)."""

    def __init__(self, base: Asgi, path: str) -> None:
        self._base = base
        self._path = path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope = self._moved(scope)
            media = scope[HEADERS].get("content-type", "").partition(";")[0].strip().lower()
            if media in ARCHIVES and scope["method"] == "POST":
                receive = wrapped(receive, media)
                scope[HEADERS] = {**scope[HEADERS], "content-type": "application/fhir+json"}
        except Problem as problem:
            await deliver(rendered(problem), scope, send)
            return
        await self._base(scope, receive, send)

    def _moved(self, scope: Scope) -> Scope:
        """The request to the operation. Raises NotFound, MethodNotAllowed."""
        segments = scope["raw_path"].decode("latin-1").strip("/").split("/")[1:]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        fitting = [(url, model) for url in URLS for model in _captured(url.pattern, segments)]
        if not fitting:
            raise NotFound("this URL is not known")
        for url, model in fitting:
            if url.method == method:
                query = scope["query_string"]
                if model:
                    query = b"&".join(filter(None, [query, f"model={quote(model)}".encode()]))
                path = self._path + f"/${url.operation}".encode()
                return {**scope, "raw_path": path, "path": path.decode(), "query_string": query}
        allow = ", ".join(sorted({url.method for url, _ in fitting}))
        raise MethodNotAllowed(f"{method} is not known here", headers={"Allow": allow})


def _captured(pattern: str, segments: list[str]) -> list[str]:
    """The name in the URL ("" where the pattern has none), if it fits."""
    parts = pattern.split("/") if pattern else []
    if len(parts) != len(segments):
        return []
    pairs = list(zip(parts, segments, strict=True))
    if any(part != segment for part, segment in pairs if part[:1] != "{"):
        return []
    return [next((unquote(segment) for part, segment in pairs if part[:1] == "{"), "")]


def wrapped(receive: Receive, media: str) -> Receive:
    """The archive as the Binary that the operation takes, as it comes."""
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
