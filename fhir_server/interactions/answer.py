"""Answers that carry a resource: https://hl7.org/fhir/R4/http.html#versioning"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from fhir_server.access.drafts import Written
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest, Issue, outcome
from fhir_server.model.resource import Stored

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(micros: int) -> str:
    """Microseconds since the epoch as an HTTP-date (RFC 9110 5.6.7)."""
    return _second_text(micros // 1_000_000)


@lru_cache(maxsize=4096)
def _second_text(seconds: int) -> str:
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{second:02} GMT"
    )


def of(stored: Stored) -> Response:
    """200 with the stored bytes as they are."""
    return Response(200, stored.body, version_headers(stored), updated=stored.updated)


def version_headers(stored: Stored) -> dict[str, str]:
    return {"ETag": stored.etag, "Last-Modified": http_date(stored.updated)}


def written(request: Request, result: Written) -> Response:
    """201 or 200 after a create or update, its body as ``Prefer: return`` asks."""
    stored = result.stored
    assert stored is not None
    headers = version_headers(stored)
    headers["Location"] = location(request.base, stored)
    status = 201 if result.created else 200
    return Response(
        status, preferred_body(request, stored, result.issues), headers, updated=stored.updated
    )


def location(base: str, stored: Stored) -> str:
    return f"{base}/{stored.key.type}/{stored.key.id}/_history/{stored.version}"


def preferred_body(request: Request, stored: Stored, told: tuple[Issue, ...] = ()) -> bytes:
    """The representation unless the client prefers less. ``told``: what profiles find in it."""
    match preference(request, "return"):
        case "minimal":
            return b""
        case "OperationOutcome":
            return dumps(stored_outcome(stored, told))
        case _:
            return stored.body


def stored_outcome(stored: Stored, told: tuple[Issue, ...] = ()) -> dict[str, object]:
    """What ``Prefer: return=OperationOutcome`` asks for after a success."""
    text = f"{stored.key} is stored as version {stored.version}"
    warnings = (Issue(i.code, i.diagnostics, i.expression, "warning") for i in told)
    return outcome([Issue("informational", text, severity="information"), *warnings])


def preference(request: Request, name: str) -> str | None:
    """One preference of the Prefer header (RFC 7240); None if it is not stated."""
    header = request.headers.get("prefer")
    if header is None:
        return None
    for part in header.replace(";", ",").split(","):
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return None


def refuse_parameters(request: Request, *known: str) -> None:
    """Parameters that an interaction does not know are refused, never ignored."""
    for name, _ in request.query:
        if name not in known:
            raise BadRequest(f"the parameter {name[:80]!r} is not supported here")


def refuse_repeated(query: Sequence[tuple[str, str]]) -> None:
    """Parameters that can be given once are refused when they come twice."""
    names = [name for name, _ in query]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"{name[:80]} is given more than once")
