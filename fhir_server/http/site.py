"""The authorization server on the wire: raw ASGI around the endpoints of ``auth/routes.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from fhir_server.auth.exchange import Ask, OAuthRefusal, Pairs, Reply
from fhir_server.auth.render import refusal
from fhir_server.auth.routes import ENDPOINTS, Endpoint, answer, problem_reply
from fhir_server.auth.server import AUTH, Server
from fhir_server.auth.steps import cookies_of
from fhir_server.formats.json import Limits, loads
from fhir_server.http.dispatch import UNEXPECTED, report
from fhir_server.http.middleware import HEADERS, REQUEST_ID
from fhir_server.http.respond import Message, Receive, Scope, Send
from fhir_server.model.problem import (
    BadRequest,
    Problem,
    RequestTimeout,
    ServerError,
    TooLarge,
    Unavailable,
)

FORM: Final = "application/x-www-form-urlencoded"
LARGEST: Final = 65_536
"""Bytes of a form."""
MOST_FIELDS: Final = 256
JSON_LIMITS: Final = Limits(body=LARGEST, depth=8, string=8192, array=64)
SECONDS: Final = 15
"""For one request."""
ARRIVING: Final = 8.0
"""Seconds in which a form is there: what the client is slow at is no fault of the server."""


class AuthSite:
    """Everything below ``/auth``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cut = len(AUTH) + 1
        self._rows = {(row.method, row.path): row for row in ENDPOINTS}
        self._paths = {row.path for row in ENDPOINTS}
        self._patterns = [path.split("/") for path in self._paths if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[str, str] = scope[HEADERS]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["raw_path"].decode("latin-1")[self._cut :]
        path, captured = self._captured(path)
        row = self._rows.get((method, path))
        if row is None:
            known = path in self._paths
            ask = Ask("GET", path, headers=headers)
            reply = refusal(self._server, ask, "bad-request", 405 if known else 404)
            if known:
                allowed = sorted(m for m, place in self._rows if place == path)
                reply.headers["Allow"] = ", ".join(allowed)
        else:
            reply = await self._answer(row, captured, scope, receive)
        await _deliver(reply, send, head=scope["method"] == "HEAD")

    def _captured(self, path: str) -> tuple[str, tuple[str, ...]]:
        """The path of the row, and what stands there for its names."""
        if path in self._paths:
            return path, ()
        parts = path.split("/")
        for pattern in self._patterns:
            pairs = list(zip(pattern, parts, strict=False))
            if len(pattern) == len(parts) and all(p == own or p[:1] == "{" for p, own in pairs):
                found = tuple(unquote(own) for p, own in pairs if p[:1] == "{")
                return "/".join(pattern), found
        return path, ()

    async def _answer(
        self, row: Endpoint, captured: tuple[str, ...], scope: Scope, receive: Receive
    ) -> Reply:
        ask = Ask(row.method, row.path, headers=scope[HEADERS], request=scope[REQUEST_ID])
        try:
            async with asyncio.timeout(SECONDS):
                ask = replace(await _asked(row, scope, receive), captured=captured)
                return await self._guarded(row, ask, scope[REQUEST_ID])
        except OAuthRefusal as refused:
            return refusal(self._server, ask, "bad-request", 400) if row.page else refused.reply()
        except Problem as problem:
            return problem_reply(self._server, row, ask, problem)
        except ValueError:
            return problem_reply(self._server, row, ask, BadRequest("it cannot be read"))
        except TimeoutError:
            return problem_reply(self._server, row, ask, Unavailable("it took too long"))

    async def _guarded(self, row: Endpoint, ask: Ask, request_id: str) -> Reply:
        """What was not expected is for the log; the answer tells nothing of it."""
        try:
            return await answer(self._server, row, ask)
        except (Problem, asyncio.CancelledError):
            raise
        except Exception as error:
            report(error, request_id)
            raise ServerError(UNEXPECTED) from error


async def _asked(row: Endpoint, scope: Scope, receive: Receive) -> Ask:
    headers: Mapping[str, str] = scope[HEADERS]
    form: Pairs = ()
    body: dict[str, Any] | None = None
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if row.body == "form" and (media or not _bodiless(row, headers)):
        if media != FORM:
            raise OAuthRefusal("invalid_request", f"the body is not {FORM}", 415)
        form = _pairs((await _body(receive)).decode("ascii"))
    elif row.body == "json":
        if media != "application/json":
            raise OAuthRefusal("invalid_request", "the body is not application/json", 415)
        body = loads(await _body(receive), JSON_LIMITS)
        if not isinstance(body, dict):
            raise OAuthRefusal("invalid_request", "the body is not a JSON object")
    client = scope.get("client")
    return Ask(
        method=row.method,
        path=row.path,
        query=_pairs(scope["query_string"].decode("ascii")),
        form=form,
        body=body,
        headers=headers,
        cookies=cookies_of(headers.get("cookie", "")),
        address=client[0] if client else "",
        request=scope[REQUEST_ID],
    )


async def _body(receive: Receive) -> bytes:
    try:
        async with asyncio.timeout(ARRIVING):
            return await _received(receive)
    except TimeoutError:
        raise RequestTimeout("the body did not arrive in time") from None


async def _received(receive: Receive) -> bytes:
    parts, left, more = [], LARGEST, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the body is not complete")
        parts.append(message.get("body", b""))
        left -= len(parts[-1])
        more = message.get("more_body", False)
        if left < 0:
            raise TooLarge(f"the body is larger than {LARGEST} bytes")
    return b"".join(parts)


def _bodiless(row: Endpoint, headers: Mapping[str, str]) -> bool:
    """userinfo may be asked by POST without a body."""
    return row.asks == "bearer" and headers.get("content-length", "0") == "0"


def _pairs(text: str) -> Pairs:
    """Decoded name/value pairs; ValueError for what is not a form."""
    return tuple(
        parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    )


async def _deliver(reply: Reply, send: Send, *, head: bool) -> None:
    headers = [(name.lower().encode(), _latin(value)) for name, value in reply.headers.items()]
    headers += [(b"set-cookie", _latin(cookie)) for cookie in reply.cookies]
    if reply.body:
        headers.append((b"content-type", reply.content_type.encode()))
    headers.append((b"content-length", b"%d" % len(reply.body)))
    start: Message = {"type": "http.response.start", "status": reply.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head else reply.body})


def _latin(value: str) -> bytes:
    return value.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
