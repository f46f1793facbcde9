"""How a client says who it is: https://www.rfc-editor.org/rfc/rfc6749#section-2.3 and SMART's
client assertions. Exactly one way, and the one that it is registered for.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Final
from urllib.parse import unquote_plus

from fhir_server.auth.assertions import TYPE, BadAssertion, issuer_of
from fhir_server.auth.clients import Client
from fhir_server.auth.exchange import Ask, OAuthRefusal
from fhir_server.auth.server import Server
from fhir_server.auth.throttle import CLIENT, origin
from fhir_server.model.problem import TooManyRequests

CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="token"'}


def invalid_client(description: str = "the client could not be authenticated") -> OAuthRefusal:
    return OAuthRefusal("invalid_client", description, 401, CHALLENGE)


async def client_of(server: Server, ask: Ask, *, named: str = "") -> Client:
    """The authenticated client of a request. ``named``: who it is if it says nothing, which is
    enough only for a public client. Raises OAuthRefusal, or TooManyRequests.
    """
    client = await _authenticated(server, ask, named)
    server.rates.spend("", client.id)
    return client


async def _authenticated(server: Server, ask: Ask, named: str) -> Client:
    if any(name in ("client_secret", "client_assertion") for name, _ in ask.query):
        raise OAuthRefusal("invalid_request", "credentials do not belong into the URL")
    header = ask.headers.get("authorization", "")
    secret, assertion = ask.value("client_secret"), ask.value("client_assertion")
    if [bool(header), bool(secret), bool(assertion)].count(True) > 1:
        raise OAuthRefusal("invalid_request", "more than one way to authenticate the client")
    if ask.value("client_assertion_type") not in (("", TYPE) if not assertion else (TYPE,)):
        raise OAuthRefusal("invalid_request", "client_assertion_type is not that of a JWT")
    id_ = ask.value("client_id")
    if assertion:
        return await _signed(server, ask, assertion, id_)
    if header:
        basic, secret = _basic(header)
        if id_ not in ("", basic):
            raise OAuthRefusal("invalid_request", "client_id is another one")
        return await _secret(server, ask, basic, secret)
    if secret:
        return await _secret(server, ask, id_, secret)
    client = await server.identities.clients.find(id_ or named)
    if client is None or client.disabled or client.method != "public":
        raise invalid_client()
    return client


def _basic(header: str) -> tuple[str, str]:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        raise invalid_client("the Authorization header of a client is Basic")
    try:
        id_, colon, secret = b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise invalid_client() from None
    if not colon:
        raise invalid_client()
    return unquote_plus(id_), unquote_plus(secret)


async def _attempt(server: Server, ask: Ask, id_: str) -> str:
    """Count a guess. The name of what was counted."""
    name = f"client/{id_}/{origin(ask.address)}"
    try:
        await server.identities.throttle.attempt(name, CLIENT)
    except TooManyRequests as refusal:
        raise OAuthRefusal(
            "temporarily_unavailable", "too many attempts", 429, refusal.headers
        ) from None
    return name


async def _secret(server: Server, ask: Ask, id_: str, secret: str) -> Client:
    client = await server.identities.clients.find(id_)
    known = client is not None and client.method == "secret" and client.knows(secret)
    if client is None or client.disabled or not known:
        await _attempt(server, ask, id_)
        raise invalid_client()
    return client


async def _signed(server: Server, ask: Ask, assertion: str, id_: str) -> Client:
    issuer = issuer_of(assertion)
    client = await server.identities.clients.find(issuer)
    if client is None or client.disabled or client.method != "keys" or id_ not in ("", issuer):
        raise invalid_client()
    try:
        await server.assertions.verify(client, assertion)
    except BadAssertion as refusal:
        await _attempt(server, ask, issuer)
        raise invalid_client(str(refusal)) from None
    return client
