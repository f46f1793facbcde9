"""The pages of signing in: name and password, the second factor, and out again."""

from __future__ import annotations

from typing import Any

from fhir_server.auth.endpoints.consent import choose
from fhir_server.auth.endpoints.factor import enrolment, recovery
from fhir_server.auth.exchange import Ask, PageRefusal, Reply, redirect
from fhir_server.auth.factors import enrolled, is_needed, key_of, passes
from fhir_server.auth.notes import note
from fhir_server.auth.records import digest
from fhir_server.auth.render import page
from fhir_server.auth.server import AUTH, Server
from fhir_server.auth.steps import (
    FACTOR_LIFE,
    Step,
    begin,
    browser,
    check_csrf,
    cookie,
    cookie_name,
    csrf,
    opened,
    renewed,
    sealed,
    signed_in,
    step_url,
)
from fhir_server.auth.throttle import ACCOUNT, ADDRESS, origin
from fhir_server.auth.users import User
from fhir_server.model.problem import TooManyRequests


async def continue_(server: Server, ask: Ask) -> Reply:
    """The page that is next on a way that was begun."""
    step = opened(server, ask.value("request"))
    session = await signed_in(server, ask)
    fresh = step.asked is not None and step.asked.fresh
    if session is None or (fresh and session.since < step.begun):
        return await login_page(server, ask, step)
    if step.next != "app":
        return redirect(f"{AUTH}/apps" if step.next == "apps" else AUTH)
    return await choose(server, ask, step, session)


async def login_page(
    server: Server, ask: Ask, step: Step, key: str = "", status: int = 200
) -> Reply:
    """Name and password; the second factor, or its enrolment, for who has given those. ``key``:
    what was wrong.
    """
    form, cookies = browser(server, ask)
    tie, request = digest(form), sealed(server, step)
    values: dict[str, Any] = {
        "request": request,
        "csrf": csrf(server, form, None),
        "error": key,
    }
    passed = await server.identities.users.find(step.passed) if step.browser == tie else None
    if passed is None:
        values |= {"title": "login-title", "provider": provider_name(server)}
        name = "login"
    elif passed.totp:
        values["title"], name = "otp-title", "otp"
    else:
        values |= enrolment(server, passed, tie, request, ask.value("enrol"))
        values["action"], name = f"{AUTH}/login", "enrol"
    return page(server, ask, name, values, status=status, cookies=cookies)


def provider_name(server: Server) -> str:
    return server.external.provider.name if server.external is not None else ""


async def login(server: Server, ask: Ask) -> Reply:
    """Judges what was given: the password, and the second factor where there is one."""
    step = opened(server, ask.value("request"))
    check_csrf(server, ask, None)  # the form is made without a session, also for a new login
    tie = digest(ask.cookies[cookie_name(server, "form")])
    passed = step.passed if step.browser == tie else ""
    if passed:
        names = await _counted(server, ask, passed)
        user = await server.identities.users.find(passed)
    else:
        names = await _counted(server, ask, ask.value("username"))
        user = await server.identities.users.authenticate(
            ask.value("username"), ask.value("password")
        )
    if user is None or user.disabled:
        return await _refused(server, ask, step)
    how, codes = "password", list[str]()
    if user.totp or is_needed(server, user):
        how, codes = await _second(server, ask, user, tie)
        if not how:
            if not ask.value("otp"):  # the password was right
                await server.identities.throttle.taken_back(names[1])
            until = server.now + FACTOR_LIFE
            next_ = renewed(server, step, passed=user.name, browser=tie, until=until)
            return await _second_page(server, ask, next_)
    account, address = names
    await server.identities.throttle.succeeded(account)
    await server.identities.throttle.taken_back(address)
    return await sign_in(server, ask, step, user, how, codes)


async def _second(server: Server, ask: Ask, user: User, tie: str) -> tuple[str, list[str]]:
    """By what the user passes the second step, empty if not; recovery codes for who enrols."""
    if user.totp:
        return await passes(server, user, ask.value("otp")), []
    key = key_of(server, user, tie, ask.value("enrol"))
    codes = await enrolled(server, user, key, ask.value("otp"))
    return ("enrolled" if codes else ""), codes


async def _second_page(server: Server, ask: Ask, step: Step) -> Reply:
    if not ask.value("otp"):
        return redirect(step_url(server, step))
    await note(server, ask, "second-factor", "refused", user=step.passed, reason="otp-wrong")
    return await login_page(server, ask, step, "otp-wrong", 401)


async def sign_in(
    server: Server, ask: Ask, step: Step, user: User, how: str, codes: list[str]
) -> Reply:
    """A new session in the place of one before, and on to the page that is next. ``codes``:
    recovery codes to show first.
    """
    before = await signed_in(server, ask)
    if before is not None:
        await server.approvals.end_session(before.id)
    made = cookie(server, "session", await server.sessions.begin(user))
    await note(server, ask, "login", user=user.name, reason=how)
    onward = step_url(server, renewed(server, step))
    if codes:
        return recovery(server, ask, codes, onward, (made,))
    return redirect(onward, (made,))


async def _refused(server: Server, ask: Ask, step: Step) -> Reply:
    """The same page whether or not the name is known; only the log tells a known one."""
    known = await server.identities.users.find(ask.value("username") or step.passed)
    name = known.name if known is not None else ""
    await note(server, ask, "login", "refused", user=name, reason="login-wrong")
    return await login_page(server, ask, renewed(server, step), "login-wrong", 401)


async def _counted(server: Server, ask: Ask, name: str) -> tuple[str, str]:
    """Counts an attempt by name and by address, whether or not the name is known."""
    names = f"login/{name[:200]}", f"address/{origin(ask.address)}"
    try:
        await server.identities.throttle.attempt(names[1], ADDRESS)
        await server.identities.throttle.attempt(names[0], ACCOUNT)
    except TooManyRequests as refusal:
        raise PageRefusal("too-many", 429, refusal.headers) from None
    return names


async def logout_page(server: Server, ask: Ask) -> Reply:
    session = await signed_in(server, ask)
    if session is None:
        return page(server, ask, "message", {"title": "logout-title", "key": "logout-done"})
    form, cookies = browser(server, ask)
    values = {"title": "logout-title", "csrf": csrf(server, form, session)}
    return page(server, ask, "logout", values, cookies=cookies)


async def logout(server: Server, ask: Ask) -> Reply:
    session = await signed_in(server, ask)
    check_csrf(server, ask, session)
    if session is not None:
        await server.approvals.end_session(session.id)
        await note(server, ask, "logout", user=session.user.name)
    gone = (cookie(server, "session", "", ends=True),)
    values = {"title": "logout-title", "key": "logout-done"}
    return page(server, ask, "message", values, cookies=gone)


async def home(server: Server, ask: Ask) -> Reply:
    """Who is signed in, and where one can go from here."""
    session = await signed_in(server, ask)
    if session is None:
        return begin(server, "home", None)
    return page(server, ask, "home", {"title": "home-title", "user": session.user})
