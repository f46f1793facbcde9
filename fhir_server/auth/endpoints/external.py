"""Signing in by an external OpenID provider: there, and back to a session of our own."""

from __future__ import annotations

import json
from typing import Final

import structlog

from fhir_server.auth.endpoints.login import sign_in
from fhir_server.auth.exchange import Ask, PageRefusal, Reply, redirect
from fhir_server.auth.factors import is_needed
from fhir_server.auth.notes import note
from fhir_server.auth.provider import External, ProviderError
from fhir_server.auth.records import digest, new_secret
from fhir_server.auth.server import Server
from fhir_server.auth.steps import FACTOR_LIFE, browser, cookie_name, opened, renewed, step_url

log = structlog.get_logger("vehr.login")

PURPOSE: Final = "external"
LIFE: Final = 600
"""Seconds that a user may take at the provider."""


def _external(server: Server) -> External:
    if server.external is None:
        raise PageRefusal("bad-request", 404)
    return server.external


async def external(server: Server, ask: Ask) -> Reply:
    """To the provider. ``state`` is sealed, for this browser alone."""
    found = _external(server)
    step = opened(server, ask.value("request"))
    form, cookies = browser(server, ask)
    nonce, verifier = new_secret(), new_secret()
    value = {
        "request": ask.value("request"),
        "nonce": nonce,
        "verifier": verifier,
        "browser": digest(form),
        "until": min(server.now + LIFE, step.until),
    }
    state = server.keys.seals.seal(PURPOSE, json.dumps(value).encode())
    try:
        return redirect(await found.login_url(state, nonce, verifier), cookies)
    except ProviderError as error:
        log.warning("the login provider cannot be used", why=str(error))
        raise PageRefusal("provider", 502) from None


async def callback(server: Server, ask: Ask) -> Reply:
    """Back from the provider. The second factor is still ours to ask."""
    found = _external(server)
    content = server.keys.seals.open(PURPOSE, ask.value("state"))
    if content is None:
        raise PageRefusal("expired")
    value = json.loads(content)
    form = ask.cookies.get(cookie_name(server, "form"), "")
    if not form or digest(form) != value["browser"]:
        raise PageRefusal("other-page", 403)
    step = opened(server, value["request"])
    if server.now >= value["until"]:
        raise PageRefusal("expired")
    if not ask.value("code"):
        raise PageRefusal("provider-refused", 403)
    try:
        identity = await found.identity(
            ask.value("code"), value["nonce"], value["verifier"], ask.value("iss")
        )
    except ProviderError as error:
        log.warning("the login provider's answer was refused", why=str(error))
        raise PageRefusal("provider", 502) from None
    user = await server.identities.users.by_identity(identity)
    if user is None or user.disabled:
        raise PageRefusal("provider-unknown", 403)
    if user.totp or is_needed(server, user):
        until = server.now + FACTOR_LIFE
        passed = renewed(server, step, passed=user.name, browser=digest(form), until=until)
        await note(server, ask, "login", user=user.name, reason="external-first")
        return redirect(step_url(server, passed))
    return await sign_in(server, ask, step, user, "external", [])
