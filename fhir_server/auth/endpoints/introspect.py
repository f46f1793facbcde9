"""``/auth/introspect``: https://www.rfc-editor.org/rfc/rfc7662 with SMART's members."""

from __future__ import annotations

from typing import Any

from fhir_server.access.ports import Row
from fhir_server.auth.client_login import client_of, invalid_client
from fhir_server.auth.exchange import Ask, OAuthRefusal, Reply, json_reply
from fhir_server.auth.idtokens import fhir_user
from fhir_server.auth.negotiation import INTROSPECTION
from fhir_server.auth.server import Server

CONTEXT = ("encounter", "intent", "fhirContext")
INACTIVE = {"active": False}


async def introspect(server: Server, ask: Ask) -> Reply:
    """A client asks about its own tokens; with the scope ``introspection`` about all."""
    asking, everything = await _asking(server, ask)
    given = ask.value("token")
    if not given:
        raise OAuthRefusal("invalid_request", "token is missing")
    row = await server.identities.tokens.row(given)
    if row is None:
        return json_reply(await _refreshing(server, given, asking, everything=everything))
    if not everything and row.value["client"] != asking:
        return json_reply(INACTIVE)
    return json_reply(await _about(server, row))


async def _asking(server: Server, ask: Ask) -> tuple[str, bool]:
    """Who asks, and whether it may ask about every token."""
    bearer = ask.bearer()
    if bearer:
        grant = await server.identities.tokens.verify(bearer)
        if grant is None:
            raise OAuthRefusal(
                "invalid_token", "the token is not valid", 401, {"WWW-Authenticate": "Bearer"}
            )
        return grant.client, INTROSPECTION in grant.scope.split()
    client = await client_of(server, ask)
    if client.method == "public":
        raise invalid_client("the client cannot authenticate itself")
    return client.id, INTROSPECTION in client.scope.split()


async def _about(server: Server, row: Row) -> dict[str, Any]:
    value = row.value
    found: dict[str, Any] = {
        "active": True,
        "client_id": value["client"],
        "scope": value["scope"],
        "exp": int(row.expires or 0),
        "iat": value["issued"],
        "token_type": "Bearer",
        "iss": server.rules.issuer,
        "aud": server.rules.base_url + value["audience"],
    }
    found |= {name: value["context"][name] for name in CONTEXT if name in value["context"]}
    if value["patient"] is not None:
        found["patient"] = value["patient"]
    user = await server.identities.users.find(value["user"]) if value["user"] else None
    found["sub"] = user.subject if user else value["client"]
    if user is not None and (own := fhir_user(server, user, value["scope"])):
        found["fhirUser"] = own
    return found


async def _refreshing(
    server: Server, given: str, asking: str, *, everything: bool
) -> dict[str, Any]:
    """The newest refresh token of an approval is active too."""
    approval = await server.approvals.of_refresh(given)
    if approval is None or not (everything or approval.held.client == asking):
        return INACTIVE
    user = await server.identities.users.find(approval.held.user)
    client = await server.identities.clients.find(approval.held.client)
    if user is None or user.disabled or client is None or client.disabled:
        return INACTIVE
    return {
        "active": True,
        "client_id": client.id,
        "scope": approval.held.scope,
        "iss": server.rules.issuer,
        "sub": user.subject,
    }
