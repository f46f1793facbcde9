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
from fhir_server.http.arriving import Arriving, parsed, unheld
from fhir_server.http.bodies import Bodies
from fhir_server.http.compression import compressed, encoding
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
from fhir_server.http.outbox import Outbox, Ready
from fhir_server.http.purposes import PURPOSE, purposeful
from fhir_server.http.recording import UNANSWERED, Recorder, Seen
from fhir_server.http.respond import (
    EDGE_LINES,
    Receive,
    Scope,
    Send,
    deliver,
    rendered,
    short_way,
)
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

MOST_ROUTES: Final = 1024
"""URLs of the base and of types whose row is remembered."""

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
        self._outbox = Outbox(audit)
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
            try:
                response = await self._serve(scope, receive, progress)
            except Problem:
                raise
            except Exception as error:
                report(error, scope[REQUEST_ID])
                raise ServerError(UNEXPECTED) from error
        except Problem as problem:
            response = await self._refused(problem, scope, progress)
        except asyncio.CancelledError:
            if not progress.deadline.missed:
                self._recorder.end(progress.seen, progress.route, scope, UNANSWERED)
                raise
            progress.deadline.task.uncancel()
            response = rendered(late(progress.deadline))
        finally:
            self._deadlines.end(progress.deadline)
        if "accept-encoding" in scope[HEADERS] and isinstance(response.body, bytes):
            response = await self._packed(response, progress, scope)
        name = progress.route.interaction if progress.route else "unknown"

        def told(status: int) -> None:
            self._meter(name, status, time.perf_counter() - started)

        way = short_way(response, scope, self._outbox.flush)
        if way is not None:
            self._post(Ready(way, scope[EDGE_LINES], response, told), progress, scope)
            return
        response = self._recorder.end(progress.seen, progress.route, scope, response)
        if not isinstance(response.body, bytes):
            accepted = scope[HEADERS].get("accept-encoding")
            response = await compressed(response, accepted, self._base.compress_above)
        await deliver(response, scope, send)
        told(response.status)

    async def _packed(self, response: Response, progress: Progress, scope: Scope) -> Response:
        """A whole answer, compressed if it is large and the client takes that."""
        accepted = scope[HEADERS]["accept-encoding"]
        try:
            return await compressed(response, accepted, self._base.compress_above)
        except asyncio.CancelledError:
            self._recorder.end(progress.seen, progress.route, scope, UNANSWERED)
            raise

    def _post(self, ready: Ready, progress: Progress, scope: Scope) -> None:
        """An answer that is recorded and sent with the others of this turn."""
        seen, loop = progress.seen, progress.deadline.task.get_loop()
        if seen is not None:
            ready.line = self._recorder.line(seen, progress.route, scope, ready.response.status)
            ready.later = seen.recording.later
        self._outbox.post(ready, loop.call_soon)

    async def _serve(self, scope: Scope, receive: Receive, progress: Progress) -> Response:
        """Everything between the routes and the bytes."""
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
            arriving = Arriving(receive, headers, progress.deadline, scope.get(HOLD, unheld))
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

    async def _refused(self, problem: Problem, scope: Scope, progress: Progress) -> Response:
        """A problem, in XML if that is asked for."""
        if progress.seen is not None:
            progress.seen.problem = problem
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
