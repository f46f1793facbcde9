"""``POST /auth/launch``: an EHR, or the portal, opens an app for its user and patient."""

from __future__ import annotations

from fhir_server.auth.contexts import checked_context
from fhir_server.auth.endpoints.userinfo import of_user
from fhir_server.auth.exchange import Ask, OAuthRefusal, Reply, json_reply
from fhir_server.auth.launches import Launch, Launches
from fhir_server.auth.notes import note
from fhir_server.auth.server import Server

TEXTS = ("client_id", "patient", "encounter", "intent")
CONTEXT = "fhirContext"
LONGEST = 256


async def launch(server: Server, ask: Ask) -> Reply:
    """``{client_id, patient, encounter?, intent?, fhirContext?}`` with a user's token gives
    ``{launch}``.

    A patient whom the user cannot reach is as one who is not there (403 for both).
    """
    _, user = await of_user(server, ask)
    body = ask.body or {}
    if set(body) - {*TEXTS, CONTEXT}:
        raise OAuthRefusal("invalid_request", f"a launch has {', '.join((*TEXTS, CONTEXT))}")
    values = {name: body.get(name, "") for name in TEXTS}
    if not all(isinstance(v, str) and len(v) <= LONGEST for v in values.values()):
        raise OAuthRefusal("invalid_request", "the members of a launch are short strings")
    client = await server.identities.clients.find(values["client_id"])
    if client is None or client.disabled or not client.redirects:
        raise OAuthRefusal("invalid_request", "client_id is not an app of this server")
    if values["patient"] not in await server.identities.people.patients(user):
        raise OAuthRefusal("access_denied", "the patient is not in the user's care", 403)
    encounter, patient = values["encounter"], values["patient"]
    if encounter and not await server.record.has_encounter(encounter, patient, user.name):
        raise OAuthRefusal("access_denied", "the encounter is not one of this patient", 403)
    context = checked_context(body.get(CONTEXT, []), server.negotiation.types)
    made = Launch(user.name, client.id, patient, encounter, values["intent"], context)
    handle = await Launches(server.identities.records).begin(made)
    await note(server, ask, "launch", user=user.name, client=client.id, patient=patient)
    return json_reply({"launch": handle}, 201)
