"""Why a request wants data, as its headers say."""

from __future__ import annotations

from typing import Final

from fhir_server.access.break_glass import Asked
from fhir_server.access.principal import Principal
from fhir_server.auth.rates import Rates
from fhir_server.http.middleware import HEADERS
from fhir_server.http.recording import Seen
from fhir_server.http.respond import Scope
from fhir_server.http.routes import Route
from fhir_server.interactions.target import pairs
from fhir_server.model.problem import BadRequest

PURPOSE: Final = "x-purpose-of-use"
REASON: Final = "x-break-glass-reason"


def purposeful(
    scope: Scope, route: Route | None, path: tuple[str, ...], seen: Seen | None, rates: Rates
) -> Asked:
    """A request that states a purpose, before its body is read. What comes of that is recorded as
    its user's, also a refusal, and nothing is done for it beyond the allowance (``rates``)."""

    def known(principal: Principal) -> None:
        if seen is not None:
            seen.principal = principal
        rates.request(principal, scope["method"], scope["raw_path"], scope[HEADERS])

    try:
        query = scope["query_string"].decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("the URL has bytes that are not percent-encoded") from None
    return Asked(
        method=scope["method"],
        interaction=route.interaction if route is not None else "unknown",
        path=path,
        query=tuple(pairs(query)),
        reason=scope[HEADERS].get(REASON, ""),
        recording=seen.recording if seen is not None else None,
        known=known,
    )
