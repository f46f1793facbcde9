"""What is not FHIR: health, metrics and the server's own documentation (Starlette)."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from hmac import compare_digest
from html import escape
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as PageRequest
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.responses import Response as PageResponse
from starlette.routing import Route

from fhir_server.auth.routes import ENDPOINTS
from fhir_server.formats.json import dumps
from fhir_server.http.inference import URLS as INFERENCE
from fhir_server.http.models import DEID, URLS
from fhir_server.http.openapi import OpenApi
from fhir_server.http.respond import FHIR_JSON, rendered
from fhir_server.http.routes import ROUTES
from fhir_server.model.problem import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unauthorized,
)

BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
FORWARDED: Final = frozenset({"forwarded", "x-forwarded-for", "x-real-ip", "via"})
"""Headers by which proxies tell that a request is not their own."""

_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")


class Metrics:
    """Requests by interaction and status, and how long they took.

    They are counted in plain lists and become samples when somebody asks.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counts: dict[tuple[str, int], int] = {}
        self._times: dict[str, list[float]] = {}
        self.registry.register(self)

    def __call__(self, interaction: str, status: int, seconds: float) -> None:
        counts, place = self._counts, (interaction, status)
        counts[place] = counts.get(place, 0) + 1
        times = self._times.get(interaction)
        if times is None:
            times = self._times[interaction] = [0.0] * (len(BUCKETS) + 2)
        times[bisect_left(BUCKETS, seconds)] += 1
        times[-1] += seconds

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks of a collector."""
        requests = CounterMetricFamily(
            "vehr_requests", "Requests", labels=("interaction", "status")
        )
        for (interaction, status), count in self._counts.items():
            requests.add_metric((interaction, str(status)), count)
        yield requests
        seconds = HistogramMetricFamily(
            "vehr_request_seconds",
            "Seconds from the routed request to the answer",
            labels=("interaction",),
        )
        for interaction, (*times, total) in self._times.items():
            counted = zip(_BOUNDS, accumulate(times), strict=True)
            seconds.add_metric((interaction,), list(counted), total)
        yield seconds


def pages(
    metrics: Metrics,
    ready: Callable[[], Awaitable[bool]],
    trouble: Callable[[], Awaitable[str | None]],
    settings: Sequence[tuple[str, ...]],
    metrics_token: str,
    openapi: OpenApi,
) -> Starlette:
    """The application for every prefix but the FHIR bases. ``trouble``: why writes are refused."""

    async def health(_: PageRequest) -> PlainTextResponse:
        if not await ready():
            return PlainTextResponse("not ready\n", 503)
        found = await trouble()
        return PlainTextResponse("ready\n" if found is None else f"degraded: {found}\n")

    async def measures(request: PageRequest) -> PageResponse:
        require_watcher(request, metrics_token)
        return PageResponse(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def docs(_: PageRequest) -> HTMLResponse:
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return HTMLResponse(documentation(settings), headers={"content-security-policy": policy})

    @cache
    def described(type_: str | None) -> bytes:
        return dumps(openapi.document(type_))

    async def document(request: PageRequest) -> PageResponse:
        type_ = request.query_params.get("type")
        try:
            content = await asyncio.to_thread(described, type_)
        except KeyError:
            raise NotFound("there is no such resource type") from None
        return PageResponse(content, media_type="application/json")

    routes = [
        Route("/health", health),
        Route("/metrics", measures),
        Route("/docs", docs),
        Route("/docs/openapi.json", document),
    ]
    return Starlette(routes=routes, exception_handlers={Problem: _problem, HTTPException: _wrong})


async def _problem(_: PageRequest, error: Exception) -> PageResponse:
    assert isinstance(error, Problem)
    answer = rendered(error)
    assert isinstance(answer.body, bytes)
    return PageResponse(answer.body, answer.status, answer.headers, FHIR_JSON)


async def _wrong(request: PageRequest, error: Exception) -> PageResponse:
    """What no route answers: an unknown URL, or a known one by another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        refused = MethodNotAllowed("this URL is only read", headers={"Allow": allowed})
        return await _problem(request, refused)
    return await _problem(request, NotFound("this URL is not known"))


def require_watcher(request: PageRequest, token: str) -> None:
    """Metrics are for who holds the token; without one, for this machine itself: Forbidden for
    other peers, and for a proxy, behind which anybody may be. Unauthorized without the token.
    """
    if token:
        given = request.headers.get("authorization", "")
        if not compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Unauthorized("metrics want a token", headers={"WWW-Authenticate": "Bearer"})
        return
    peer = request.client.host if request.client else ""
    forwarded = not FORWARDED.isdisjoint(request.headers.keys())
    if forwarded or not (peer == "::1" or peer.startswith(("127.", "::ffff:127."))):
        raise Forbidden("metrics are only for this machine; see VEHR_METRICS_TOKEN")


def documentation(settings: Sequence[tuple[str, ...]]) -> str:
    """One page without scripts: the routes and the settings."""
    routes = [(r.method, f"/fhir/{r.pattern}", r.interaction, r.description) for r in ROUTES]
    routes += [(e.method, f"/auth/{e.path}", "login", e.description) for e in ENDPOINTS]
    routes += [(u.method, f"/models/{u.pattern}", u.operation, u.description) for u in URLS]
    routes += [(u.method, f"/deid/{u.pattern}", u.operation, u.description) for u in DEID]
    routes += [(u.method, f"/v2/{u.pattern}", "inference", u.description) for u in INFERENCE]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>vEHR</title>"
        "<style>body{font:16px system-ui;margin:2em auto;max-width:60em}"
        "td,th{padding:.2em .8em;text-align:left;vertical-align:top}</style>"
        "<h1>vEHR</h1><p>FHIR R4 (4.0.1). What this server can do: "
        "<a href=/fhir/metadata>CapabilityStatement</a>, "
        "<a href=/docs/openapi.json>OpenAPI</a> (of one type: "
        "<a href='/docs/openapi.json?type=Patient'>Patient</a>).</p>"
        f"<h2>URLs</h2>{_table(('method', 'URL', 'interaction', 'meaning'), routes)}"
        f"<h2>Settings</h2>{_table(('variable', 'default', 'meaning'), settings)}</html>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    names = "".join(f"<th>{name}</th>" for name in head)
    return f"<table><tr>{names}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
