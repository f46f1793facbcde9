"""The edge: one ASGI layer around everything that the server serves.

Host check, limits, CORS, security headers and the request id, for FHIR routes and pages
alike. Headers are read once, into ``scope["vehr.headers"]``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import count
from typing import Final
from urllib.parse import urlsplit

from fhir_server.config import Settings
from fhir_server.http.admission import ALWAYS, Admission
from fhir_server.http.respond import (
    EDGE_LINES,
    Asgi,
    Message,
    Receive,
    Scope,
    Send,
    deliver,
    rendered,
)
from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest, Forbidden, Problem, TooLarge

HEADERS: Final = "vehr.headers"
REQUEST_ID: Final = "vehr.request_id"
HOLD: Final = "vehr.hold"
"""Where a scope holds what is to be told of memory that a body takes."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

EXPOSED: Final = (
    "Location, Content-Location, ETag, Last-Modified, X-Request-Id, WWW-Authenticate, "
    "X-Security-Context, X-Progress, Retry-After, Expires, Accept-Ranges, Content-Range"
)
METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED: Final = (
    "Authorization, Content-Type, Accept, Prefer, If-Match, If-None-Match, If-Modified-Since, "
    "If-None-Exist, Range, X-Request-Id, X-Purpose-Of-Use, X-Security-Context"
)
SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
PREFLIGHT: Final = Response(
    204,
    headers={
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": ALLOWED,
        "Access-Control-Max-Age": "600",
    },
)
SMART: Final = ".well-known/smart-configuration"
MOST_HOSTS: Final = 64
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9\-._]{1,64}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-_]+)(?::\d{0,5})?")
_FORWARDED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


REGISTERED: Final = "registered"
"""Among the origins: those of registered clients."""
Registered = Callable[[str], Awaitable[bool]]
"""Does the page of a registered client have this origin?"""


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """``hosts``: names that the Host header may have. ``origins``: browser origins; "*" any.
    ``everybody``: paths that pages of any origin may read.

    ``loopback_only``: only loopback origins, and requests of any other origin are refused.
    ``contents``: paths (with what is below them) whose bodies are streamed, and their limit.
    ``proxies``: who is believed about the address of a client.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    loopback_only: bool
    max_body: int
    max_url: int
    max_headers: int
    max_running: int
    max_held: int
    contents: tuple[tuple[bytes, int], ...] = ()
    everybody: frozenset[bytes] = frozenset()
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    def body_limit(self, path: bytes) -> tuple[int, bool]:
        """Bytes that a body for this path may have, and whether it is streamed."""
        for place, limit in self.contents:
            if path == place or path.startswith(place + b"/"):
                return limit, True
        return self.max_body, False


class Edge:
    """Outermost: calls ``inner`` for what passes."""

    def __init__(
        self, inner: Asgi, rules: EdgeRules, https: bool, registered: Registered | None = None
    ) -> None:
        self._inner = inner
        self._registered = registered or nobody
        self._rules = rules
        self._security = list(SECURITY)
        if https:
            self._security.append((b"strict-transport-security", b"max-age=31536000"))
        self._lines = "".join([f"{n.decode()}: {v.decode()}\r\n" for n, v in self._security])
        self._prefix = secrets.token_hex(4)
        self._numbers = count(1)
        self._admission = Admission(rules.max_running, rules.max_held)
        self._hosts: set[str] = set()
        """Host headers, with their ports, that have passed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inner(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        headers, size = read_headers(scope["headers"])
        scope[HEADERS] = headers
        if self._rules.proxies and scope["client"] is not None:
            scope["client"] = client_of(scope["client"], headers, self._rules.proxies)
        request_id = headers.get("x-request-id")
        if request_id is None or _REQUEST_ID.fullmatch(request_id) is None:
            request_id = f"{self._prefix}-{next(self._numbers):x}"
        scope[REQUEST_ID] = request_id
        added = (b"x-request-id", request_id.encode())
        cors: Sequence[tuple[bytes, bytes]] = ()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = dict(message["headers"])
                more = (*self._security, added, *cors)
                message["headers"] += [p for p in more if p[0] not in own or p[0] == b"vary"]
            await send(message)

        try:
            self._check(scope, headers, size)
            if "origin" in headers:
                cors = await self._cors(headers["origin"], scope["raw_path"])
            else:
                scope[EDGE_LINES] = f"{self._lines}x-request-id: {request_id}\r\n"
        except Problem as problem:
            await deliver(rendered(problem), scope, send_with_headers)
            return
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await deliver(PREFLIGHT, scope, send_with_headers)
        elif scope["raw_path"] in ALWAYS:
            await self._inner(scope, receive, send_with_headers)
        else:
            await self._admit(scope, receive, send_with_headers)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The rest of the server, for as many requests as it can serve."""
        try:
            place = self._admission.enter()
        except Problem as problem:
            await deliver(rendered(problem), scope, send)
            return
        try:
            if scope["method"] in _WITH_BODY:
                limit, streamed = self._rules.body_limit(scope["raw_path"])
                receive = place.receiving(receive, limit, streamed=streamed)
                scope[HOLD] = place.hold
            await self._inner(scope, receive, place.sending(send))
        finally:
            place.leave()

    def _check(self, scope: Scope, headers: dict[str, str], size: int) -> None:
        rules = self._rules
        host = headers.get("host", "")
        if host not in self._hosts:
            if _host(host) not in rules.hosts:
                raise BadRequest("the Host is not one of this server")
            if len(self._hosts) < MOST_HOSTS:
                self._hosts.add(host)
        if len(scope["raw_path"]) + len(scope["query_string"]) > rules.max_url:
            raise BadRequest(f"the URL is longer than {rules.max_url} bytes", code="too-long")
        if size > rules.max_headers:
            raise BadRequest(
                f"the headers are longer than {rules.max_headers} bytes", code="too-long"
            )
        length = headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length[:20]) > rules.max_body):
            limit, _ = rules.body_limit(scope["raw_path"])
            if not length.isdigit() or int(length[:20]) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")

    async def _cors(self, origin: str, path: bytes) -> Sequence[tuple[bytes, bytes]]:
        rules = self._rules
        if rules.loopback_only and not _is_loopback(origin):
            raise Forbidden("only pages of this machine may call an open server")
        if rules.loopback_only or origin.lower() in rules.origins:
            allowed, vary = origin.encode("latin-1", "replace"), [(b"vary", b"origin")]
        elif "*" in rules.origins or path in rules.everybody:
            allowed, vary = b"*", []
        elif REGISTERED in rules.origins and await self._registered(origin):
            allowed, vary = origin.encode("latin-1", "replace"), [(b"vary", b"origin")]
        else:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", EXPOSED.encode()),
            *vary,
        ]


async def nobody(origin: str) -> bool:
    """No origin is registered."""
    return False


def read_headers(raw: Sequence[tuple[bytes, bytes]]) -> tuple[dict[str, str], int]:
    """Values by lower-case name, and how many bytes they all are; a header that comes several
    times is one list (RFC 9110 5.3)."""
    headers: dict[str, str] = {}
    size = 0
    for name, value in raw:
        size += len(name) + len(value)
        key = name.decode("latin-1")
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers, size


def client_of(
    peer: tuple[str, int],
    headers: dict[str, str],
    proxies: Sequence[IPv4Network | IPv6Network],
) -> tuple[str, int]:
    """Who asks: the last address in X-Forwarded-For that is none of our proxies, if the peer is
    one. What stands before it, anybody may have written.
    """
    found = peer
    for text in reversed([peer[0], *headers.get("x-forwarded-for", "").split(",")][1:]):
        if not _among(found[0], proxies):
            break
        try:
            found = str(ip_address(_without_port(text.strip()))), 0
        except ValueError:
            break
    return found


def _without_port(text: str) -> str:
    """Some proxies write the port too: ``192.0.2.1:443``, ``[2001:db8::1]:443``."""
    found = _FORWARDED.fullmatch(text)
    return text if found is None else found[1] or found[2]


def _among(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def limited(receive: Receive, limit: int) -> Receive:
    """A receive that raises TooLarge once more than ``limit`` bytes have come."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        return message

    return receive_limited


def _host(header: str) -> str:
    """The name of a Host header without its port; empty if it is not name and port."""
    found = _HOST.fullmatch(header)
    return found[1].lower() if found else ""


def _is_loopback(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    return host in ("127.0.0.1", "localhost", "::1")


def edge_rules(settings: Settings, path: str, *, open_: bool) -> EdgeRules:
    """Whom the server answers; an open one only this machine. ``path``: of the base."""
    own = urlsplit(settings.base_url).hostname or ""
    hosts = LOOPBACK if open_ else (*LOOPBACK, own, *settings.hosts)
    return EdgeRules(
        hosts=frozenset(hosts),
        origins=frozenset(() if open_ else settings.origins),
        loopback_only=open_,
        max_body=settings.max_body,
        max_url=settings.max_url,
        max_headers=settings.max_headers,
        max_running=settings.max_running,
        max_held=settings.max_held,
        contents=((f"{path}/Binary".encode(), settings.max_content),),
        proxies=tuple(map(ip_network, settings.proxies)),
        everybody=frozenset(
            {
                *(f"{path}/{public}".encode() for public in ("metadata", SMART)),
                *(b"/auth/.well-known/openid-configuration", b"/auth/jwks", b"/auth/style.json"),
            }
        ),
    )
