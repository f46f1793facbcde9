"""``/v2``: the Open Inference Protocol, the second face of the models.

Each URL but those of health is an operation of the FHIR base (``operations/infer.py``), answered
by it: the same gate, limits and audit. A refusal is ``{"error": …}`` as the protocol has it
(https://github.com/kserve/open-inference-protocol).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fhir_server.formats.json import dumps, loads
from fhir_server.http.faced import as_binary, found
from fhir_server.http.middleware import HEADERS
from fhir_server.http.respond import (
    WAY,
    Asgi,
    Message,
    Receive,
    Scope,
    Send,
    deliver,
    rendered,
)
from fhir_server.model.exchange import Response
from fhir_server.model.problem import Problem, UnsupportedMediaType

JSON: Final = "application/json"
FHIR_JSON: Final = "application/fhir+json"
KEPT: Final = frozenset({"authorization", "x-request-id", "x-purpose-of-use", "host"})
"""Request headers that matter here; the rest speaks of FHIR's negotiation."""


@dataclass(frozen=True, slots=True)
class InferenceUrl:
    """``pattern``: below ``/v2``; what it captures becomes a parameter of ``operation``, ""
    where there is none and nobody needs a token. ``further``: of the query."""

    method: str
    pattern: str
    operation: str
    description: str
    further: str = ""


_MODEL: Final = "models/{model}"
_VERSION: Final = "models/{model}/versions/{version}"
URLS: Final = (
    InferenceUrl("GET", "health/live", "", "Does the server run?"),
    InferenceUrl("GET", "health/ready", "", "Does it take requests?"),
    InferenceUrl("GET", "", "inference", "The server"),
    InferenceUrl("GET", _MODEL, "inference", "A model: its inputs and outputs"),
    InferenceUrl("GET", _VERSION, "inference", "A version of a model"),
    InferenceUrl("GET", f"{_MODEL}/ready", "inference", "Can a model be run?", "ready=true"),
    InferenceUrl("GET", f"{_VERSION}/ready", "inference", "Can a version be run?", "ready=true"),
    InferenceUrl("POST", f"{_MODEL}/infer", "infer", "Run a model on tensors"),
    InferenceUrl("POST", f"{_VERSION}/infer", "infer", "Run a version of a model on tensors"),
)


class InferenceFace:
    """``base``: the FHIR base, at ``path`` (``/fhir``). ``ready``: are requests taken?"""

    def __init__(self, base: Asgi, path: str, ready: Callable[[], Awaitable[bool]]) -> None:
        self._base = base
        self._path = path
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {name: value for name, value in scope.items() if name != WAY}
        told = _Told(send)
        try:
            url, captured = found(URLS, scope)
            if not url.operation:
                await deliver(await self._health(url), scope, send)
                return
            moved, body = self._moved(url, captured, scope), receive
            if url.method == "POST":
                body = as_binary(receive, JSON)
        except Problem as problem:
            await deliver(rendered(problem), scope, told)
            return
        await self._base(moved, body, told)

    async def _health(self, url: InferenceUrl) -> Response:
        ready = await self._ready()
        live = {"live": True} if url.pattern.endswith("live") else {"live": True, "ready": ready}
        status = 200 if ready or "ready" not in live else 503
        return Response(status, dumps(live), content_type=JSON)

    def _moved(self, url: InferenceUrl, captured: dict[str, str], scope: Scope) -> Scope:
        """The request to the operation. Raises UnsupportedMediaType."""
        headers = {k: v for k, v in scope[HEADERS].items() if k in KEPT}
        if url.method == "POST":
            media = scope[HEADERS].get("content-type", JSON).partition(";")[0].strip().lower()
            if media != JSON or "content-encoding" in scope[HEADERS]:
                raise UnsupportedMediaType(f"the request is {JSON}, as it is")
            headers["content-type"] = FHIR_JSON
        pairs = [f"{name}={quote(value, safe='')}" for name, value in captured.items()]
        query = "&".join([*pairs, *filter(None, [url.further])])
        path = f"{self._path}/${url.operation}"
        moved = {"raw_path": path.encode(), "path": path, "query_string": query.encode()}
        return {**scope, HEADERS: headers, **moved}


class _Told:
    """Sends an answer on; an OperationOutcome as an error of the protocol."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
            return
        if self._start is None:
            await self._send(message)
            return
        self._parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            await self._refused(self._start, b"".join(self._parts))

    async def _refused(self, start: Message, body: bytes) -> None:
        headers = [(k, v) for k, v in start["headers"] if k not in (b"content-type",)]
        media = dict(start["headers"]).get(b"content-type", b"")
        if body and media.startswith(FHIR_JSON.encode()):
            issues = loads(body).get("issue", [])
            text = "; ".join(issue.get("diagnostics", issue["code"]) for issue in issues)
            body = dumps({"error": text})
        headers = [(k, b"%d" % len(body) if k == b"content-length" else v) for k, v in headers]
        headers.append((b"content-type", JSON.encode()))
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
