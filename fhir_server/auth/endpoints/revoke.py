"""``/auth/revoke``: https://www.rfc-editor.org/rfc/rfc7009"""

from __future__ import annotations

from fhir_server.auth.client_login import client_of
from fhir_server.auth.exchange import NO_STORE, Ask, OAuthRefusal, Reply
from fhir_server.auth.notes import note
from fhir_server.auth.server import Server


async def revoke(server: Server, ask: Ask) -> Reply:
    """A refresh token ends the approval with all its access tokens. Unknown tokens, and those
    of other clients, make no difference and the same answer."""
    client = await client_of(server, ask)
    given = ask.value("token")
    if not given:
        raise OAuthRefusal("invalid_request", "token is missing")
    approval = await server.approvals.of_refresh(given)
    if approval is not None and approval.held.client == client.id:
        await server.approvals.withdraw(approval.id)
        await note(server, ask, "revoke", client=client.id, user=approval.held.user)
    row = await server.identities.tokens.row(given)
    if row is not None and row.value["client"] == client.id:
        await server.identities.tokens.revoke(given)
        await note(server, ask, "revoke", client=client.id, user=row.value["user"])
    return Reply(200, headers=dict(NO_STORE))
