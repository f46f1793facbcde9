"""``/auth/authorize``: https://hl7.org/fhir/smart-app-launch/app-launch.html"""

from __future__ import annotations

from fhir_server.auth.exchange import Ask, OAuthRefusal, RedirectRefusal, Reply
from fhir_server.auth.notes import note
from fhir_server.auth.requests import checked, client_for, refused
from fhir_server.auth.server import Server
from fhir_server.auth.steps import begin


async def authorize(server: Server, ask: Ask) -> Reply:
    """Checks the request and leads to the first page, or back to the app with an error."""
    client, uri = await client_for(server, ask)
    try:
        asked = checked(server, ask, client, uri)
    except RedirectRefusal as refusal:
        await note(server, ask, "authorize", "refused", client=client.id, reason=refusal.error)
        return refused(server, uri, _state(ask), refusal)
    return begin(server, "app", asked)


def _state(ask: Ask) -> str:
    """What goes back with an error, as it came; nothing if it came twice."""
    try:
        return ask.value("state")
    except OAuthRefusal:
        return ""
