"""``/auth/token``: https://www.rfc-editor.org/rfc/rfc6749#section-3.2"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fhir_server.auth.approvals import ACCESS_SECONDS, Issued, SpentToken
from fhir_server.auth.client_login import client_of
from fhir_server.auth.clients import Client
from fhir_server.auth.codes import BadCode, Codes
from fhir_server.auth.exchange import Ask, OAuthRefusal, Reply, json_reply
from fhir_server.auth.idtokens import id_token
from fhir_server.auth.negotiation import WORDS
from fhir_server.auth.notes import note
from fhir_server.auth.ports import What
from fhir_server.auth.server import Server
from fhir_server.auth.tokens import Held
from fhir_server.auth.users import User

SERVICE_SECONDS: Final = 300
"""SMART Backend Services: an access token of five minutes and no refresh token."""


async def token(server: Server, ask: Ask) -> Reply:
    grant = ask.value("grant_type")
    if grant not in GRANTS:
        raise OAuthRefusal("unsupported_grant_type", "grant_type is not supported")
    return json_reply(await GRANTS[grant](server, ask))


async def _by_code(server: Server, ask: Ask) -> dict[str, Any]:
    client = await client_of(server, ask)
    identities = server.identities
    code, verifier = ask.value("code"), ask.value("code_verifier")
    try:
        issued, grounds = await Codes(identities.records, server.approvals).redeem(
            code, client.id, ask.value("redirect_uri"), verifier
        )
    except BadCode as refusal:
        raise OAuthRefusal("invalid_grant", str(refusal)) from None
    user = await _living(server, issued)
    await _note(server, ask, "token", issued.approval.held)
    claims = {"nonce": grounds.nonce, "auth_time": int(grounds.signed_in)}
    return _response(server, client, user, issued, claims)


async def _by_refresh(server: Server, ask: Ask) -> dict[str, Any]:
    given = ask.value("refresh_token")
    # A public app may leave out its client_id: the refresh token names the client.
    client = await client_of(server, ask, named=await server.approvals.client_of(given))
    scope: str | None = " ".join(ask.value("scope").split())
    if scope:
        held = await server.approvals.scope_of(given)
        if not server.negotiation.covers(held, scope):
            raise OAuthRefusal("invalid_scope", "the scope was not granted")
    try:
        issued = await server.approvals.refresh(given, client.id, scope or None)
    except SpentToken as refusal:
        raise OAuthRefusal("invalid_grant", str(refusal)) from None
    user = await _living(server, issued)
    await _note(server, ask, "refresh", issued.approval.held)
    return _response(server, client, user, issued, {})


async def _by_service(server: Server, ask: Ask) -> dict[str, Any]:
    """https://hl7.org/fhir/smart-app-launch/backend-services.html"""
    client = await client_of(server, ask)
    if client.method == "public":
        raise OAuthRefusal("unauthorized_client", "the client cannot authenticate itself")
    asked = ask.value("scope")
    if not asked:
        raise OAuthRefusal("invalid_scope", "scope is missing")
    scope = server.negotiation.granted(asked, client.scope, ("system",))
    scope = [text for text in scope if text not in WORDS]
    if not scope:
        raise OAuthRefusal("invalid_scope", "nothing of the scope may be granted")
    identities = server.identities
    held = Held(" ".join(scope), client.id, audience=server.rules.face)
    access, write = identities.tokens.made(held, SERVICE_SECONDS)
    await identities.records.commit(write)
    await _note(server, ask, "token", held)
    return {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": SERVICE_SECONDS,
        "scope": held.scope,
    }


GRANTS: Final[dict[str, Callable[[Server, Ask], Awaitable[dict[str, Any]]]]] = {
    "authorization_code": _by_code,
    "refresh_token": _by_refresh,
    "client_credentials": _by_service,
}


async def _note(server: Server, ask: Ask, what: What, held: Held) -> None:
    who = {"user": held.user, "client": held.client, "patient": held.patient or ""}
    await note(server, ask, what, **who)


async def _living(server: Server, issued: Issued) -> User:
    """The user of an approval, who may have been disabled since."""
    user = await server.identities.users.find(issued.approval.held.user)
    if user is None or user.disabled:
        await server.approvals.withdraw(issued.approval.id)
        raise OAuthRefusal("invalid_grant", "the user may not sign in any more")
    return user


def _response(
    server: Server, client: Client, user: User, issued: Issued, claims: dict[str, Any]
) -> dict[str, Any]:
    held = issued.approval.held
    response: dict[str, Any] = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": ACCESS_SECONDS,
        "scope": issued.scope,
        **held.context,
    }
    if held.patient is not None:
        response["patient"] = held.patient
    if issued.refresh:
        response["refresh_token"] = issued.refresh
    if "openid" in issued.scope.split():
        response["id_token"] = id_token(
            server, user, client.id, issued.scope, issued.access, claims
        )
    return response
