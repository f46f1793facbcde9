"""The Elasticsearch that the settings name: limits on every wait, a breaker, and failures as
problems that a client sees.

Client: https://www.elastic.co/guide/en/elasticsearch/client/python-api/8.19/index.html, the
official one. Its version 8 speaks to servers 8 and 9.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from elastic_transport import HttpxAsyncHttpNode, TransportError
from elasticsearch import ApiError, AsyncElasticsearch, UnsupportedProductError

from fhir_server.model.problem import BadRequest, Unavailable

log = structlog.get_logger("vehr")

SECONDS: Final = 5.0
"""What a single request may take."""
BRIEF: Final = 1.0
"""The same where only whether it answers is asked."""
FAILURES: Final = 3
"""So many failures one after the other open the breaker."""
PAUSE: Final = 5.0
"""Seconds for which an open breaker refuses at once; then one request tries."""
RETRY: Final = {"Retry-After": "5"}
ASKS_TOO_MUCH: Final = ("too_many_clauses", "too_many_nested_clauses", "too_long_http_line")
"""Beginnings of what it says of a query that is larger than it takes."""

GONE: Final = "index_not_found_exception"
"""What it says of an index that is not there; any other 404 is somebody else's."""
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError)
"""What reading an answer raises that is not what was asked for."""

Work = Callable[[AsyncElasticsearch], Awaitable[Any]]
Read = Callable[[Any], Any]
"""What is taken from the body of an answer; raises one of ``UNREADABLE``."""


class Missing(Exception):
    """The index is not there."""


class Large(Unavailable):
    """The request is larger than it, or what stands before it, takes."""


class Breaker:
    """Refuses at once while nothing is to be hoped for. ``now``: seconds of a steady clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES and self._now() < self._until

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._until = self._now() + PAUSE


class Cluster:
    """Requests to one Elasticsearch."""

    def __init__(self, client: AsyncElasticsearch, breaker: Breaker | None = None) -> None:
        self._client = client
        self._breaker = breaker or Breaker()

    async def ask(self, work: Work, seconds: float = SECONDS, read: Read = dict) -> Any:
        """What ``read`` finds in an answer, all of which came in time. Raises Unavailable (also
        Large), Missing, or BadRequest (too-costly)."""
        if self._breaker.open:
            raise Unavailable("the search engine does not answer", headers=RETRY)
        try:
            async with asyncio.timeout(seconds):
                answer = await work(self._client.options(request_timeout=seconds))
        except UnsupportedProductError as error:
            raise self._failed("the search engine is not an Elasticsearch") from error
        except (TransportError, TimeoutError) as error:
            raise self._failed("the search engine does not answer") from error
        except ApiError as error:
            raise self._refused(error) from error
        try:
            found = read(answer.body)
        except UNREADABLE as error:
            raise self._failed("the search engine answers what it should not") from error
        self._breaker.succeeded()
        return found

    def _failed(self, text: str) -> Unavailable:
        self._breaker.failed()
        return Unavailable(text, headers=RETRY)

    def _refused(self, error: ApiError) -> Exception:
        status, reason = error.meta.status, _reason(error.body)
        if status >= 500 or status == 429:
            return self._failed(f"the search engine cannot answer: {reason or status}")
        self._breaker.succeeded()
        if status == 404 and reason == GONE:
            return Missing(reason)
        if reason.startswith(ASKS_TOO_MUCH):
            return BadRequest("the text search asks for too much", code="too-costly")
        if status in (401, 403):
            reason = "the credentials of this server"
        log.error("the search engine refuses", status=status, reason=reason)
        kind = Large if status == 413 else Unavailable
        return kind(f"the search engine refuses {reason or status}", headers=RETRY)

    async def trouble(self) -> str | None:
        """Why it does not serve, for the operator."""
        try:
            await self.ask(lambda client: client.info(), BRIEF)
        except Unavailable as problem:
            return f"text cannot be searched: {problem}"
        return None

    async def close(self) -> None:
        await self._client.close()


def _reason(body: Any) -> str:
    """The kind of error, never its text: that may hold what was searched for."""
    try:
        error = body["error"]
        causes = error.get("root_cause") or [error]
        return str(causes[0].get("type") or error.get("type") or "")
    except UNREADABLE:
        return ""


def connect(url: str, secret: str = "", ca: Path | None = None) -> Cluster:
    """``secret``: an API key (encoded), or USER:PASSWORD. ``ca``: certificates to trust.

    Raises Unavailable if the certificates cannot be used.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    options: dict[str, Any] = {}
    if ":" in secret:
        user, _, password = secret.partition(":")
        options["basic_auth"] = (user, password)
    elif secret:
        options["api_key"] = secret
    if ca is not None:
        options["ca_certs"] = str(ca)
    try:
        client = AsyncElasticsearch(
            f"{parts.scheme}://{host}:{port}{parts.path}",
            node_class=HttpxAsyncHttpNode,
            max_retries=0,
            request_timeout=SECONDS,
            **options,
        )
    except (OSError, ValueError) as error:
        raise Unavailable(f"the search engine cannot be used: {error}") from None
    return Cluster(client)
