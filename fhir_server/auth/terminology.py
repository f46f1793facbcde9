"""The way to another terminology server (``VEHR_TERMINOLOGY``)."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from fhir_server.auth.outbound import Outbound, OutboundError, Refusal
from fhir_server.config import Settings
from fhir_server.model.problem import Unavailable
from operations.relay import Relay

LARGEST: Final = 10_000_000
SECONDS: Final = 10


def terminology_relay(settings: Settings) -> Relay | None:
    """None: there is no other server."""
    base = settings.terminology
    if not base:
        return None
    outbound = Outbound(
        loopback=settings.outbound_loopback == "yes",
        inside=(urlsplit(base).hostname or "",),
        largest=LARGEST,
        seconds=SECONDS,
    )

    async def post(url: str, body: bytes) -> Any:
        try:
            return await outbound.post_fhir(url, body)
        except Refusal:
            return None
        except OutboundError as error:
            raise Unavailable(f"the other terminology server: {error}") from None

    return Relay(base, post)
