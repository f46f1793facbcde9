"""``/auth/userinfo``: https://openid.net/specs/openid-connect-core-1_0.html#UserInfo"""

from __future__ import annotations

from fhir_server.access.gate import Grant
from fhir_server.auth.exchange import Ask, OAuthRefusal, Reply, json_reply
from fhir_server.auth.idtokens import fhir_user
from fhir_server.auth.server import Server
from fhir_server.auth.users import User


async def of_user(server: Server, ask: Ask) -> tuple[Grant, User]:
    """The user whose token a request bears. OAuthRefusal without one."""
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    grant = await server.identities.tokens.verify(ask.bearer()) if ask.bearer() else None
    if grant is None:
        raise OAuthRefusal("invalid_token", "a user's token is needed", 401, challenge)
    user = await server.identities.users.find(grant.user) if grant.user else None
    if user is None:
        raise OAuthRefusal("insufficient_scope", "a user's token is needed", 403)
    server.rates.spend(user.name, grant.client)
    return grant, user


async def userinfo(server: Server, ask: Ask) -> Reply:
    grant, user = await of_user(server, ask)
    if "openid" not in grant.scope.split():
        raise OAuthRefusal("insufficient_scope", "the scope openid is needed", 403)
    own = fhir_user(server, user, grant.scope)
    return json_reply({"sub": user.subject, **({"fhirUser": own} if own else {})})
