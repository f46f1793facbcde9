"""The authorization request, checked before anybody is asked to sign in.

RFC 6749 section 4.1.1, RFC 7636, SMART App Launch. Until client and redirect address are known
to belong together the refusal is a page; afterwards it is sent to that address.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from fhir_server.auth.clients import Client
from fhir_server.auth.exchange import (
    Ask,
    OAuthRefusal,
    PageRefusal,
    RedirectRefusal,
    Reply,
    redirect,
    with_query,
)
from fhir_server.auth.server import Server

PARAMETERS: Final = (
    *("response_type", "client_id", "redirect_uri", "scope", "state", "aud", "launch", "nonce"),
    *("code_challenge", "code_challenge_method", "response_mode", "prompt"),
)
CHALLENGE: Final = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
LONGEST: Final = 4096
"""Characters of a parameter."""
CONTEXTS: Final = ("patient", "user")
"""Of the scopes that a person can grant."""


class Asked(msgspec.Struct, array_like=True, frozen=True):
    """A checked request. ``scope``: what of it the client may have. ``fresh``: the user must
    sign in anew. ``face``: the base that the token is for."""

    client: str
    redirect: str
    state: str
    scope: tuple[str, ...]
    challenge: str
    nonce: str
    launch: str
    fresh: bool
    face: str


async def client_for(server: Server, ask: Ask) -> tuple[Client, str]:
    """The client and the address that belong together. PageRefusal if they do not."""
    try:
        id_, uri = ask.value("client_id"), ask.value("redirect_uri")
    except OAuthRefusal:
        raise PageRefusal("bad-request") from None
    client = await server.identities.clients.find(id_)
    if client is None or client.disabled or not client.redirects:
        raise PageRefusal("unknown-client")
    if not client.redirects_to(uri):
        raise PageRefusal("bad-redirect")
    return client, uri


def checked(server: Server, ask: Ask, client: Client, uri: str) -> Asked:
    """The rest of the request. RedirectRefusal says what is wrong with it."""
    if ask.repeated() & set(PARAMETERS):
        raise RedirectRefusal("invalid_request", "a parameter is given twice")
    values = {name: ask.value(name) for name in PARAMETERS}
    if any(len(value) > LONGEST for value in values.values()):
        raise RedirectRefusal("invalid_request", "a parameter is too long")
    if values["response_type"] != "code":
        raise RedirectRefusal("unsupported_response_type", "response_type must be code")
    for name, error in (("request", "request_not_supported"),):
        if ask.values(name):
            raise RedirectRefusal(error, f"{name} is not supported")
    if ask.values("request_uri"):
        raise RedirectRefusal("request_uri_not_supported", "request_uri is not supported")
    if values["response_mode"] not in ("", "query"):
        raise RedirectRefusal("invalid_request", "response_mode must be query")
    if not values["state"]:
        raise RedirectRefusal("invalid_request", "state is missing")
    face = server.rules.face_of(values["aud"])
    if face is None:
        raise RedirectRefusal("invalid_request", "aud is not the URL of this server's record")
    if values["code_challenge_method"] != "S256":
        raise RedirectRefusal("invalid_request", "code_challenge_method must be S256")
    if CHALLENGE.fullmatch(values["code_challenge"]) is None:
        raise RedirectRefusal("invalid_request", "code_challenge is missing or malformed")
    return Asked(
        client=client.id,
        redirect=uri,
        state=values["state"],
        scope=_scope(server, values, client),
        challenge=values["code_challenge"],
        nonce=values["nonce"],
        launch=values["launch"],
        fresh=_fresh(values["prompt"]),
        face=face,
    )


def _fresh(prompt: str) -> bool:
    """Every approval is asked for, so ``none`` can never succeed."""
    if "none" in prompt.split():
        raise RedirectRefusal("interaction_required", "the user has to be asked")
    return "login" in prompt.split()


def _scope(server: Server, values: dict[str, str], client: Client) -> tuple[str, ...]:
    scope = server.negotiation.granted(values["scope"], client.scope, CONTEXTS)
    if "launch" in scope and not values["launch"]:
        raise RedirectRefusal("invalid_request", "the scope launch needs the parameter launch")
    if values["launch"] and "launch" not in scope:
        raise RedirectRefusal("invalid_request", "the parameter launch needs the scope launch")
    if not scope:
        raise RedirectRefusal("invalid_scope", "nothing of the scope may be granted")
    return tuple(scope)


def answered(server: Server, uri: str, state: str, **values: str) -> Reply:
    """An authorization response, with ``iss`` (RFC 9207)."""
    given = {**values, **({"state": state} if state else {}), "iss": server.rules.issuer}
    return redirect(with_query(uri, given))


def refused(server: Server, uri: str, state: str, refusal: RedirectRefusal) -> Reply:
    return answered(server, uri, state, error=refusal.error, error_description=refusal.description)
