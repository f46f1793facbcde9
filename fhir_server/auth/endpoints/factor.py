"""The pages of the second factor: enrolment, recovery codes, replacement."""

from __future__ import annotations

from typing import Any

from fhir_server.auth.exchange import Ask, PageRefusal, Reply
from fhir_server.auth.factors import (
    enrolled,
    hashed,
    is_needed,
    key_of,
    new_codes,
    passes,
    picture,
    proposed,
    spaced,
)
from fhir_server.auth.notes import note
from fhir_server.auth.render import page
from fhir_server.auth.server import AUTH, Server
from fhir_server.auth.steps import begin, browser, check_csrf, csrf, signed_in
from fhir_server.auth.throttle import ACCOUNT
from fhir_server.auth.users import User
from fhir_server.auth.websessions import WebSession
from fhir_server.model.problem import TooManyRequests


async def factor(server: Server, ask: Ask) -> Reply:
    """Enrolment for who has none, else what can be done with it."""
    session = await signed_in(server, ask)
    if session is None:
        return begin(server, "home", None)
    return _shown(server, ask, session)


def _shown(server: Server, ask: Ask, session: WebSession, key: str = "") -> Reply:
    form, cookies = browser(server, ask)
    token = csrf(server, form, session)
    status = 401 if key else 200
    user = session.user
    if not user.totp:
        values = enrolment(server, user, session.id, "", ask.value("enrol"))
        given = {**values, "csrf": token, "error": key, "action": f"{AUTH}/factor"}
        return page(server, ask, "enrol", given, status=status, cookies=cookies)
    values = {
        "title": "factor-title",
        "csrf": token,
        "error": key,
        "left": len(user.recovery),
        "removable": not is_needed(server, user),
    }
    return page(server, ask, "factor", values, status=status, cookies=cookies)


def enrolment(
    server: Server, user: User, tie: str, request: str, sealed: str = ""
) -> dict[str, Any]:
    """What the page of enrolment shows: a new key, or the one that was ``sealed`` before, which
    the user's app holds already when a code was mistyped.
    """
    key = key_of(server, user, tie, sealed)
    if not key:
        key, sealed = proposed(server, user, tie)
    return {
        "title": "enrol-title",
        "request": request,
        "enrol": sealed,
        "picture": picture(server, user, key),
        "key": spaced(key),
    }


async def change_factor(server: Server, ask: Ask) -> Reply:
    """Enrols; or, with a code, makes new recovery codes, replaces or removes the factor."""
    session = await signed_in(server, ask)
    check_csrf(server, ask, session)
    if session is None:
        return begin(server, "home", None)
    user = session.user
    try:
        await server.identities.throttle.attempt(f"login/{user.name}", ACCOUNT)
    except TooManyRequests as refusal:
        raise PageRefusal("too-many", 429, refusal.headers) from None
    if not user.totp:
        key = key_of(server, user, session.id, ask.value("enrol"))
        codes = await enrolled(server, user, key, ask.value("otp"))
        if not codes:
            return await _wrong(server, ask, session)
        return await _done(server, ask, user, "enrolled", codes)
    act = ask.value("act")
    if act not in ("codes", "remove") or (act == "remove" and is_needed(server, user)):
        raise PageRefusal("bad-request")
    if not await passes(server, user, ask.value("otp")):
        return await _wrong(server, ask, session)
    users = server.identities.users
    if act == "remove":
        await users.change(user.name, totp="", recovery=[])
        return await _done(server, ask, user, "removed", [])
    codes = new_codes()
    await users.change(user.name, recovery=[hashed(code) for code in codes])
    return await _done(server, ask, user, "codes", codes)


async def _wrong(server: Server, ask: Ask, session: WebSession) -> Reply:
    who = {"user": session.user.name, "reason": "otp-wrong"}
    await note(server, ask, "second-factor", "refused", **who)
    return _shown(server, ask, session, "otp-wrong")


async def _done(server: Server, ask: Ask, user: User, act: str, codes: list[str]) -> Reply:
    await server.identities.throttle.succeeded(f"login/{user.name}")
    await note(server, ask, "second-factor", user=user.name, reason=act)
    if not codes:
        return page(server, ask, "message", {"title": "factor-title", "key": "factor-removed"})
    return recovery(server, ask, codes, AUTH)


def recovery(
    server: Server, ask: Ask, codes: list[str], onward: str, cookies: tuple[str, ...] = ()
) -> Reply:
    """The recovery codes, shown this once."""
    values = {"title": "recovery-title", "codes": codes, "onward": onward}
    return page(server, ask, "recovery", values, cookies=cookies)
