"""The dispatcher of a FHIR base: raw ASGI, bytes in, bytes out.

One request: route, admit, negotiate, read the body, run the handler, deliver. FHIR routes
never enter a web framework.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from fhir_server.access.audit.log import AuditLog
from fhir_server.access.gate import Gate
from fhir_server.access.lasting import standing
from fhir_server.access.session import Session
from fhir_server.auth.rates import Rates
from fhir_server.http.bodies import Bodies
from fhir_server.http.compression import compressed, encoding, inflated
from fhir_server.http.deadlines import Deadline, Deadlines, late
from fhir_server.http.middleware import HEADERS, HOLD, REQUEST_ID, limited
from fhir_server.http.negotiate import (
    FORM,
    PATCHES,
    RESOURCES,
    Format,
    accept,
    asks_for_fhir,
    content_type,
    is_fhir,
    presentation,
)
from fhir_server.http.purposes import PURPOSE, purposeful
from fhir_server.http.recording import UNANSWERED, Recorder, Seen
from fhir_server.http.respond import Receive, Scope, Send, deliver, rendered
from fhir_server.http.routes import OWN_FORMATS, Route, Router
from fhir_server.interactions.ports import Call, Handler
from fhir_server.interactions.target import Pairs, pairs, segments
from fhir_server.jobs.request import Replayed, prefers_async
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import (
    BadRequest,
    NotSupported,
    Problem,
    ServerError,
    UnsupportedMediaType,
)

log = structlog.get_logger("vehr.http")

FORM_ONLY: Final = frozenset({FORM})
UNEXPECTED: Final = "The server met an unexpected condition; the request id names it in its log"

LARGE: Final = 64_000
"""Bytes of a body that take long to parse: about 3 ms."""

MOST_ROUTES: Final = 1024
"""URLs of the base and of types whose row is remembered."""

PAUSE_SECONDS: Final = 8
"""A client that sends nothing of its body for so long is given up."""

CONTENT_TIMES: Final = 20
"""Streamed content may take so many times as long as other requests."""

AT_ONCE: Final = frozenset(
    {"capabilities", "async-status", "async-cancel", "async-file", "job", "jobs"}
    | {"create-binary", "read-binary", "update-binary", "vread-binary"}
)
"""Interactions that are never deferred: ``Prefer`` may be passed over (RFC 7240)."""

_UNASKED: Final[tuple[Pairs, str | None, bool]] = ([], None, False)
Defer = Callable[[Replayed, Session], Awaitable[Response]]
"""Makes a job of a request and answers 202."""

Meter = Callable[[str, int, float], None]
"""(interaction, status, seconds) of one finished request."""


@dataclass(frozen=True, slots=True)
class Base:
    """``path``: of the base on this server (``/fhir``); ``url``: its public URL.
    ``compress_above``: bytes of an answer from which on it is compressed; 0: none is.
    """

    path: str
    url: str
    bodies: Bodies
    seconds: float
    compress_above: int
    rates: Rates


@dataclass(slots=True)
class Progress:
    """How far one request has come: its time limit, its row once that is known, and what of it
    is recorded, unless it is public.
    """

    deadline: Deadline
    route: Route | None = None
    seen: Seen | None = None


@dataclass(slots=True)
class Arriving:
    """A body that arrives. ``hold``: told of bytes that are kept beside those that came."""

    receive: Receive
    headers: Mapping[str, str]
    deadline: Deadline
    hold: Callable[[int], None]

    async def whole(self, limit: int) -> bytes:
        """All of it, inflated; its limit as it comes is that of the edge."""
        name = encoding(self.headers)
        data = await read_body(self.receive, self.deadline)
        if not name:
            return data
        content = await asyncio.to_thread(inflated, name, data, limit)
        self.hold(len(content))
        return content


def _unheld(_: int) -> None:
    """Nobody counts."""


class FhirBase:
    """One FHIR base URL."""

    def __init__(
        self,
        base: Base,
        gate: Gate,
        router: Router,
        handlers: Mapping[str, Handler],
        meter: Meter,
        defer: Defer,
        audit: AuditLog | None = None,
    ) -> None:
        self._recorder = Recorder(audit)
        self._base = base
        self._cut = len(base.path) + 1
        self._gate = gate
        self._router = router
        self._handlers = handlers
        self._meter = meter
        self._defer = defer
        self._deadlines = Deadlines(base.seconds)
        self._routes: dict[tuple[str, bytes], tuple[Route, tuple[str, ...]]] = {}

    @property
    def interactions(self) -> Collection[str]:
        """Those that have a handler."""
        return self._handlers.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        progress = Progress(self._deadlines.start())
        try:
            response = await self._answer(scope, receive, progress)
        except Problem as problem:
            if progress.seen is not None:
                progress.seen.problem = problem
            response = await self._refused(problem, scope)
        except asyncio.CancelledError:
            if not progress.deadline.missed:
                self._recorder.end(progress.seen, progress.route, scope, UNANSWERED)
                raise
            progress.deadline.task.uncancel()
            response = rendered(late(progress.deadline))
        finally:
            self._deadlines.end(progress.deadline)
        response = self._recorder.end(progress.seen, progress.route, scope, response)
        if "accept-encoding" in scope[HEADERS]:
            accepted = scope[HEADERS]["accept-encoding"]
            response = await compressed(response, accepted, self._base.compress_above)
        await deliver(response, scope, send)
        name = progress.route.interaction if progress.route else "unknown"
        self._meter(name, response.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, progress: Progress) -> Response:
        """Everything between the routes and the bytes; unexpected errors become ServerError."""
        try:
            return await self._serve(scope, receive, progress)
        except Problem:
            raise
        except Exception as error:
            report(error, scope[REQUEST_ID])
            raise ServerError(UNEXPECTED) from error

    async def _serve(self, scope: Scope, receive: Receive, progress: Progress) -> Response:
        headers: dict[str, str] = scope[HEADERS]
        try:
            route, path = self._route(scope["method"], scope["raw_path"])
        except Problem:
            await self._admit(scope, progress)
            raise
        progress.route = route
        session = self._gate.anonymous
        if not route.public:
            session = await self._admit(scope, progress, path)
        query, format_, indent = _UNASKED
        if scope["query_string"]:
            query, format_, indent = presentation(pairs(_ascii(scope["query_string"])))
        raw = route.raw and not asks_for_fhir(format_, headers.get("accept"))
        if path and path[-1] in OWN_FORMATS and route.interaction == "operation":
            raw, query = True, [*query, *([("_format", format_)] if format_ else [])]
        wanted: Format = "json"
        if not raw:
            wanted = accept(format_, headers.get("accept"), headers.get("content-type"))
        handler = self._handler(route)
        body: Json | None = None
        content: AsyncIterator[bytes] | None = None
        if route.body == "content" and not is_fhir(headers.get("content-type")):
            if encoding(headers):
                raise UnsupportedMediaType("content that is streamed is not compressed")
            content = self._content(receive, progress.deadline)
        elif route.body != "none":
            arriving = Arriving(receive, headers, progress.deadline, scope.get(HOLD, _unheld))
            body, form = await self._body(route, arriving)
            query = query + form if form else query
        request = Request(
            method=scope["method"],
            path=path,
            query=tuple(query),
            headers=headers,
            body=body,
            base=self._base.url,
            request_id=scope[REQUEST_ID],
            content=content,
            raw=raw,
        )
        if progress.seen is not None:
            progress.seen.request = request
        if route.interaction == "transaction" and body is not None:
            self._base.rates.entries(session.principal, body)
        later = "prefer" in headers and prefers_async(request)
        if later and route.interaction not in AT_ONCE and not session.at_once:
            url = _ascii(scope["raw_path"])[self._cut :]
            return await self._defer(Replayed(route.interaction, request, url), session)
        response = standing(await handler(request, session), session)
        if progress.seen is not None:
            progress.seen.answered(response)
        if wanted == "xml" and not raw:
            return await self._base.bodies.as_xml(response, indent=indent)
        return await self._base.bodies.prettified(response) if indent else response

    async def _admit(self, scope: Scope, progress: Progress, path: tuple[str, ...] = ()) -> Session:
        """The Session of a request, which is recorded from here on, also if it is refused."""
        seen = progress.seen = self._recorder.begin(scope)
        headers, rates = scope[HEADERS], self._base.rates
        purpose = headers.get(PURPOSE, "")
        asked = purposeful(scope, progress.route, path, seen, rates) if purpose else None
        session = await self._gate.admit(headers.get("authorization"), purpose, asked)
        session = session if seen is None else seen.by(session)
        if asked is None:
            rates.request(session.principal, scope["method"], scope["raw_path"], headers)
        return session

    async def _refused(self, problem: Problem, scope: Scope) -> Response:
        """A problem, in XML if that is asked for."""
        response = rendered(problem)
        headers: dict[str, str] = scope[HEADERS]
        try:
            _, format_, indent = presentation(pairs(_ascii(scope["query_string"])))
            if accept(format_, headers.get("accept"), headers.get("content-type")) == "xml":
                response = await self._base.bodies.as_xml(response, indent=indent)
        except Problem:
            return response
        return response

    def _route(self, method: str, raw_path: bytes) -> tuple[Route, tuple[str, ...]]:
        found = self._routes.get((method, raw_path))
        if found is None:
            path = segments(_ascii(raw_path)[self._cut :])
            found = self._router.resolve(method, path)
            if len(path) < 2 and len(self._routes) < MOST_ROUTES:
                self._routes[method, raw_path] = found
        return found

    def _handler(self, route: Route) -> Handler:
        handler = self._handlers.get(route.interaction)
        if handler is None:
            raise NotSupported(f"the interaction {route.interaction} is not supported yet")
        return handler

    async def _body(self, route: Route, arriving: Arriving) -> tuple[Json | None, Pairs]:
        """The parsed resource, or the pairs of a form."""
        media, bodies = arriving.headers.get("content-type"), self._base.bodies
        if route.body in ("form", "optional") and media is None:
            if await arriving.whole(bodies.limits.body):
                content_type(None, FORM_ONLY if route.body == "form" else RESOURCES)
            return None, []
        if route.body == "form":
            content_type(media, FORM_ONLY)
            return None, pairs(_ascii(await arriving.whole(bodies.limits.body)))
        if route.body == "patch":
            content_type(media, PATCHES)
            data = await arriving.whole(bodies.limits.body)
            return await parsed(bodies.patch, media, data), []
        content_type(media, RESOURCES)
        if route.body == "content":
            arriving.receive = limited(arriving.receive, bodies.limits.body)
        data = await arriving.whole(bodies.limits.body)
        return await parsed(bodies.resource, media, data), []

    async def _content(self, receive: Receive, deadline: Deadline) -> AsyncIterator[bytes]:
        """A body that is streamed. Its parts each have the time of a request, the whole of
        it that of ``CONTENT_TIMES`` requests.
        """
        loop = asyncio.get_running_loop()
        last = loop.time() + CONTENT_TIMES * self._base.seconds
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("the body is not complete")
            deadline.when = min(loop.time() + self._base.seconds, last)
            more = message.get("more_body", False)
            yield message.get("body", b"")

    async def perform(self, call: Call, outer: Request, session: Session) -> Response:
        """One request inside a Bundle, as any other but for negotiation (``ports.Perform``)."""
        path, _, query = call.url.partition("?")
        route, captured = self._router.resolve(call.method, segments(path))
        if route.interaction == "transaction":
            raise BadRequest("a Bundle of requests does not hold another one")
        inner, format_, _ = presentation(pairs(query))
        accept(format_, None)
        handler = self._handler(route)
        request = Request(
            call.method,
            captured,
            tuple(inner),
            call.headers,
            call.body,
            outer.base,
            outer.request_id,
        )
        try:
            response = await handler(request, session)
        except Problem:
            raise
        except Exception as error:
            report(error, outer.request_id)
            raise ServerError(UNEXPECTED) from error
        if not isinstance(response.body, bytes):
            raise BadRequest("too large for a Bundle: ask for it alone", code="too-costly")
        if call.method == "HEAD":
            response.body = b""
        return response


async def parsed(
    parse: Callable[[str | None, bytes], Json], media: str | None, data: bytes
) -> Json:
    """A body by ``parse``; a large one beside the loop, so that small requests go on."""
    if len(data) < LARGE:
        return parse(media, data)
    return await asyncio.to_thread(parse, media, data)


async def read_body(receive: Receive, deadline: Deadline) -> bytes:
    """The whole body; its size is limited by the edge, its pauses by the deadline."""
    time_of, last, deadline.reading = deadline.task.get_loop().time, deadline.when, True
    parts, more = [], True
    while more:
        deadline.when = min(last, time_of() + PAUSE_SECONDS)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the body is not complete")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    deadline.when, deadline.reading = last, False
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _ascii(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("the URL or form has bytes that are not percent-encoded") from None


def report(error: Exception, request_id: str) -> None:
    """What happened, for the operator: the kind and place of an error, never its data."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    log.error(
        "unexpected error",
        error=type(error).__name__,
        request_id=request_id,
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )
