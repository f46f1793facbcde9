"""What of a request to the authorization server is told to the security log."""

from __future__ import annotations

from fhir_server.auth.clients import ID
from fhir_server.auth.exchange import Ask, OAuthRefusal
from fhir_server.auth.ports import Outcome, SecurityEvent, What
from fhir_server.auth.server import Server


async def note(
    server: Server, ask: Ask, what: What, outcome: Outcome = "success", /, **who: str
) -> None:
    """Record it. ``who``: further members of the event. Unavailable if that cannot be."""
    event = SecurityEvent(what, outcome, address=ask.address, request=ask.request, **who)
    await server.identities.log.record(event)


async def note_refusal(server: Server, ask: Ask, what: What, reason: str) -> None:
    """A refusal by which nobody was known yet; the client is who the request says."""
    try:
        named = ask.value("client_id")
    except OAuthRefusal:
        named = ""
    client = named if ID.fullmatch(named) else ""
    await note(server, ask, what, "refused", client=client, reason=reason)
