"""Every URL below ``/auth``, once. The site, its documentation and the tests iterate over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.auth.endpoints.apps import apps, withdraw
from fhir_server.auth.endpoints.authorize import authorize
from fhir_server.auth.endpoints.consent import consent, patient
from fhir_server.auth.endpoints.discovery import jwks, openid_configuration, style
from fhir_server.auth.endpoints.introspect import introspect
from fhir_server.auth.endpoints.launch import launch
from fhir_server.auth.endpoints.login import continue_, home, login, logout, logout_page
from fhir_server.auth.endpoints.revoke import revoke
from fhir_server.auth.endpoints.token import token
from fhir_server.auth.endpoints.userinfo import userinfo
from fhir_server.auth.exchange import (
    Ask,
    OAuthRefusal,
    PageRefusal,
    Reply,
)
from fhir_server.auth.render import refusal, stylesheet
from fhir_server.auth.server import Server
from fhir_server.model.problem import Problem

Handler = Callable[[Server, Ask], Awaitable[Reply]]


async def _stylesheet(server: Server, ask: Ask) -> Reply:
    return stylesheet()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``asks``: by what the caller is known: nothing, the session cookie with (for a POST) a
    CSRF token, client authentication, or a user's access token. ``page``: refusals are pages.
    """

    method: str
    path: str
    handler: Handler
    description: str
    asks: Literal["nothing", "session", "client", "bearer"] = "nothing"
    page: bool = False
    body: Literal["none", "form", "json"] = "none"


ENDPOINTS: Final = (
    Endpoint("GET", ".well-known/openid-configuration", openid_configuration, "OpenID discovery"),
    Endpoint("GET", "jwks", jwks, "Public keys of id_tokens"),
    Endpoint("GET", "style.json", style, "Colours and sizes for apps (SMART)"),
    Endpoint("GET", "style.css", _stylesheet, "Style of the pages"),
    Endpoint("GET", "authorize", authorize, "An app asks for access", page=True),
    Endpoint("POST", "authorize", authorize, "An app asks for access", page=True, body="form"),
    Endpoint("GET", "continue", continue_, "The page that is next", page=True),
    Endpoint("POST", "login", login, "Sign in", page=True, body="form"),
    Endpoint("POST", "patient", patient, "Choose a patient", "session", True, "form"),
    Endpoint("POST", "consent", consent, "Allow or refuse", "session", True, "form"),
    Endpoint("GET", "", home, "Your account", "session", True),
    Endpoint("GET", "apps", apps, "Apps with access", "session", True),
    Endpoint("POST", "apps/withdraw", withdraw, "Withdraw access", "session", True, "form"),
    Endpoint("GET", "logout", logout_page, "Sign out?", "session", True),
    Endpoint("POST", "logout", logout, "Sign out", "session", True, "form"),
    Endpoint("POST", "token", token, "Tokens for codes and keys", "client", False, "form"),
    Endpoint("POST", "introspect", introspect, "What a token is", "client", False, "form"),
    Endpoint("POST", "revoke", revoke, "End a token", "client", False, "form"),
    Endpoint("GET", "userinfo", userinfo, "Who the user is", "bearer"),
    Endpoint("POST", "userinfo", userinfo, "Who the user is", "bearer", False, "form"),
    Endpoint("POST", "launch", launch, "Open an app for a patient", "bearer", False, "json"),
)


async def answer(server: Server, endpoint: Endpoint, ask: Ask) -> Reply:
    """The reply of an endpoint, its refusals included."""
    try:
        return await endpoint.handler(server, ask)
    except PageRefusal as refused:
        return refusal(server, ask, refused.key, refused.status, refused.headers)
    except OAuthRefusal as refused:
        if endpoint.page:
            return refusal(server, ask, "bad-request")
        return refused.reply()


def problem_reply(server: Server, endpoint: Endpoint, ask: Ask, problem: Problem) -> Reply:
    """A problem of what lies below, as a page or in the words of OAuth."""
    status, headers = problem.status, problem.headers
    if endpoint.page:
        key = "busy" if status >= 429 else "bad-request"
        return refusal(server, ask, key, status, headers)
    error = "invalid_request" if status < 429 else "temporarily_unavailable"
    return OAuthRefusal(
        "server_error" if status == 500 else error, str(problem), status, headers
    ).reply()
