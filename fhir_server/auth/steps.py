"""Where a person is between an app's request and the answer.

A step is sealed and carried in the URL; nothing of it is kept here until there is a code. The
same URL shows the login, the second factor, the picker or the consent page, whichever is next.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from fhir_server.auth.exchange import Ask, PageRefusal, Reply, redirect
from fhir_server.auth.records import digest, new_secret
from fhir_server.auth.requests import Asked
from fhir_server.auth.server import AUTH, Server
from fhir_server.auth.websessions import WebSession

LIFE: Final = 900
"""Seconds that a person may take for one page."""
FACTOR_LIFE: Final = 300
"""Seconds between the password and the second factor."""
PURPOSE: Final = "step"


class Step(msgspec.Struct, array_like=True, frozen=True):
    """``next``: where it leads. ``passed``: who has given the password and not yet the second
    factor, in the browser whose cookie hashes to ``browser``. ``begun``: epoch seconds.
    ``encounter``: None until it is chosen, empty for none.
    """

    next: Literal["app", "apps", "home"]
    begun: float
    until: float
    asked: Asked | None = None
    patient: str = ""
    passed: str = ""
    browser: str = ""
    encounter: str | None = None


def step_url(server: Server, step: Step) -> str:
    return f"{AUTH}/continue?request={sealed(server, step)}"


def sealed(server: Server, step: Step) -> str:
    return server.keys.seals.seal(PURPOSE, msgspec.json.encode(step))


def begin(server: Server, next_: Literal["app", "apps", "home"], asked: Asked | None) -> Reply:
    """To the first page of the way."""
    now = server.now
    return redirect(step_url(server, Step(next_, now, now + LIFE, asked)))


def opened(server: Server, text: str) -> Step:
    """PageRefusal for what was not sealed here, or too long ago."""
    content = server.keys.seals.open(PURPOSE, text)
    if content is None:
        raise PageRefusal("expired")
    step = msgspec.json.decode(content, type=Step)
    if server.now >= step.until:
        raise PageRefusal("expired")
    return step


def renewed(server: Server, step: Step, **values: str | float | None) -> Step:
    given = {"until": server.now + LIFE, "passed": "", "browser": "", **values}
    return msgspec.structs.replace(step, **given)


def cookie_name(server: Server, kind: str) -> str:
    """``__Host-``: for this host alone, by https alone."""
    return f"__Host-vehr-{kind}" if server.rules.secure else f"vehr-{kind}"


def cookie(server: Server, kind: str, value: str, *, ends: bool = False) -> str:
    """A Set-Cookie value for this server's pages; it ends with the browser."""
    secure = "; Secure" if server.rules.secure else ""
    age = "; Max-Age=0" if ends else ""
    name = cookie_name(server, kind)
    return f"{name}={quote(value)}; Path=/; HttpOnly; SameSite=Lax{secure}{age}"


def cookies_of(header: str) -> dict[str, str]:
    """The cookies of a request; of what is malformed there are none."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def browser(server: Server, ask: Ask) -> tuple[str, tuple[str, ...]]:
    """What ties forms to a browser, and the cookie to set if it is new."""
    known = ask.cookies.get(cookie_name(server, "form"), "")
    if len(known) >= 40:
        return known, ()
    made = new_secret()
    return made, (cookie(server, "form", made),)


def csrf(server: Server, form: str, session: WebSession | None) -> str:
    """The token of all forms of one browser and session."""
    return server.keys.seals.derive("csrf", digest(form), session.id if session else "")


def check_csrf(server: Server, ask: Ask, session: WebSession | None) -> None:
    """PageRefusal unless the form came from a page of ours in the same browser."""
    known = ask.cookies.get(cookie_name(server, "form"), "")
    parts = digest(known), session.id if session else ""
    if not known or not server.keys.seals.matches(ask.value("csrf"), "csrf", *parts):
        raise PageRefusal("other-page", 403)


async def signed_in(server: Server, ask: Ask) -> WebSession | None:
    return await server.sessions.find(ask.cookies.get(cookie_name(server, "session"), ""))
