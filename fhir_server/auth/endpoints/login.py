"""The pages of signing in: name and password, the second factor, and out again."""

from __future__ import annotations

from fhir_server.access.roles import ROLES
from fhir_server.auth import totp
from fhir_server.auth.endpoints.consent import choose
from fhir_server.auth.exchange import Ask, PageRefusal, Reply, redirect
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
from fhir_server.auth.throttle import ACCOUNT, ADDRESS
from fhir_server.auth.users import User
from fhir_server.model.problem import TooManyRequests


async def continue_(server: Server, ask: Ask) -> Reply:
    """The page that is next on a way that was begun."""
    step = opened(server, ask.value("request"))
    session = await signed_in(server, ask)
    fresh = step.asked is not None and step.asked.fresh
    if session is None or (fresh and session.since < step.begun):
        return login_page(server, ask, step)
    if step.next != "app":
        return redirect(f"{AUTH}/apps" if step.next == "apps" else AUTH)
    return await choose(server, ask, step, session)


def login_page(server: Server, ask: Ask, step: Step, key: str = "", status: int = 200) -> Reply:
    """Name and password; the second factor for who has given those. ``key``: what was wrong."""
    form, cookies = browser(server, ask)
    factor = step.passed != "" and step.browser == digest(form)
    values = {
        "title": "otp-title" if factor else "login-title",
        "request": sealed(server, step),
        "csrf": csrf(server, form, None),
        "error": key,
    }
    name = "otp" if factor else "login"
    return page(server, ask, name, values, status=status, cookies=cookies)


async def login(server: Server, ask: Ask) -> Reply:
    """Judges what was given: the password, and the second factor where there is one."""
    step = opened(server, ask.value("request"))
    check_csrf(server, ask, None)  # the form is made without a session, also for a new login
    form = ask.cookies[cookie_name(server, "form")]
    otp = ask.value("otp")
    passed = step.passed if step.browser == digest(form) else ""
    if passed:
        user = await server.identities.users.find(passed)
        if user is None or user.disabled:
            return await _refused(server, ask, step)
        names = await _counted(server, ask, user.name)
    else:
        names = await _counted(server, ask, ask.value("username"))
        user = await server.identities.users.authenticate(
            ask.value("username"), ask.value("password")
        )
        if user is None:
            return await _refused(server, ask, step)
    if _needs_factor(server, user) and not user.totp:
        raise PageRefusal("factor-missing", 403)
    if user.totp and not await _code_is_right(server, user, otp):
        until = server.now + FACTOR_LIFE
        next_ = renewed(server, step, passed=user.name, browser=digest(form), until=until)
        if not otp:
            return redirect(step_url(server, next_))
        await note(server, ask, "second-factor", "refused", user=user.name, reason="otp-wrong")
        return login_page(server, ask, next_, "otp-wrong", 401)
    await server.identities.throttle.succeeded(*names)
    before = await signed_in(server, ask)
    if before is not None:
        await server.sessions.end(before.id)
    made = await server.sessions.begin(user)
    await note(server, ask, "login", user=user.name, reason="otp" if user.totp else "password")
    return redirect(step_url(server, renewed(server, step)), (cookie(server, "session", made),))


async def _refused(server: Server, ask: Ask, step: Step) -> Reply:
    """The same page whether or not the name is known; only the log tells a known one."""
    known = await server.identities.users.find(ask.value("username") or step.passed)
    name = known.name if known is not None else ""
    await note(server, ask, "login", "refused", user=name, reason="login-wrong")
    return login_page(server, ask, renewed(server, step), "login-wrong", 401)


async def _counted(server: Server, ask: Ask, name: str) -> tuple[str, str]:
    """Counts an attempt by name and by address, whether or not the name is known."""
    names = f"login/{name[:200]}", f"address/{ask.address}"
    try:
        await server.identities.throttle.attempt(names[1], ADDRESS)
        await server.identities.throttle.attempt(names[0], ACCOUNT)
    except TooManyRequests as refusal:
        raise PageRefusal("too-many", 429, refusal.headers) from None
    return names


def _needs_factor(server: Server, user: User) -> bool:
    return server.rules.required and ROLES[user.role].second_factor


async def _code_is_right(server: Server, user: User, otp: str) -> bool:
    step = totp.step_of(user.totp, otp, server.now) if otp else None
    return step is not None and await server.identities.users.spend_code(user, step)


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
        await server.sessions.end(session.id)
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
