"""Every URL below ``/auth``, once. The site, its documentation and the tests iterate over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.auth.admin_schemas import (
    CLIENT_CHANGE,
    INVITATION,
    NEW_CLIENT,
    NEW_RELATION,
    NEW_USER,
    RELATION_END,
    USER_CHANGE,
)
from fhir_server.auth.endpoints import admin
from fhir_server.auth.endpoints.apps import apps, withdraw
from fhir_server.auth.endpoints.authorize import authorize
from fhir_server.auth.endpoints.consent import consent, encounter, patient
from fhir_server.auth.endpoints.discovery import jwks, openid_configuration, style
from fhir_server.auth.endpoints.external import callback, external
from fhir_server.auth.endpoints.factor import change_factor, factor
from fhir_server.auth.endpoints.introspect import introspect
from fhir_server.auth.endpoints.launch import launch
from fhir_server.auth.endpoints.login import continue_, home, login, logout, logout_page
from fhir_server.auth.endpoints.register import register
from fhir_server.auth.endpoints.revoke import revoke
from fhir_server.auth.endpoints.token import token
from fhir_server.auth.endpoints.userinfo import userinfo
from fhir_server.auth.exchange import (
    Ask,
    OAuthRefusal,
    PageRefusal,
    Reply,
)
from fhir_server.auth.notes import note_refusal
from fhir_server.auth.ports import What
from fhir_server.auth.render import refusal, stylesheet
from fhir_server.auth.server import Server
from fhir_server.model.problem import Problem

Handler = Callable[[Server, Ask], Awaitable[Reply]]
Schema = dict[str, Any]
Asks = Literal["nothing", "session", "client", "bearer"]


async def _stylesheet(server: Server, ask: Ask) -> Reply:
    return stylesheet()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``asks``: by what the caller is known: nothing, the session cookie with (for a POST) a
    CSRF token, client authentication, or a user's access token. ``page``: refusals are pages.
    ``event``: as what refusals are told to the security log. ``schema``: of a JSON body.
    """

    method: str
    path: str
    handler: Handler
    description: str
    asks: Asks = "nothing"
    page: bool = False
    body: Literal["none", "form", "json"] = "none"
    event: What | None = None
    schema: dict[str, Any] | None = None


def _page(
    path: str, handler: Handler, description: str, event: What | None = None, asks: Asks = "session"
) -> Endpoint:
    return Endpoint("GET", path, handler, description, asks, page=True, event=event)


def _form(
    path: str, handler: Handler, description: str, event: What, asks: Asks = "session"
) -> Endpoint:
    return Endpoint("POST", path, handler, description, asks, True, "form", event)


def _call(
    path: str, handler: Handler, description: str, event: What, asks: Asks = "client"
) -> Endpoint:
    """Refusals are JSON, in the words of OAuth."""
    return Endpoint("POST", path, handler, description, asks, False, "form", event)


def _admin(
    method: str, path: str, act: admin.Act, description: str, schema: Schema | None = None
) -> Endpoint:
    return Endpoint(
        method,
        f"admin/{path}",
        admin.administered(act),
        description,
        "bearer",
        body="json" if schema else "none",
        schema=schema,
    )


ADMINISTRATION: Final = (
    _admin("GET", "users", admin.users, "All users"),
    _admin("POST", "users", admin.add_user, "Add a user", NEW_USER),
    _admin("GET", "users/{name}", admin.user, "A user"),
    _admin("PATCH", "users/{name}", admin.change_user, "Change a user", USER_CHANGE),
    _admin("GET", "clients", admin.clients, "All clients"),
    _admin("POST", "clients", admin.add_client, "Register a client", NEW_CLIENT),
    _admin("GET", "clients/{id}", admin.client, "A client"),
    _admin("PATCH", "clients/{id}", admin.change_client, "Change a client", CLIENT_CHANGE),
    _admin("POST", "invitations", admin.invite, "An initial access token", INVITATION),
    _admin("GET", "relations", admin.relations, "Care relationships (user, patient)"),
    _admin("POST", "relations", admin.add_relation, "Begin a care relationship", NEW_RELATION),
    _admin("POST", "relations/end", admin.end_relation, "End one now", RELATION_END),
    _admin("GET", "sessions", admin.sessions, "Who is signed in (user)"),
    _admin("DELETE", "sessions/{id}", admin.end_session, "Sign somebody out"),
    _admin("GET", "approvals", admin.approvals, "What users let apps do (user)"),
    _admin("DELETE", "approvals/{id}", admin.withdraw_approval, "Withdraw it"),
    _admin("GET", "keys", admin.keys, "Signing keys"),
    _admin("POST", "keys/rotate", admin.rotate_keys, "Sign with a new key"),
)


ENDPOINTS: Final = (
    *ADMINISTRATION,
    Endpoint("GET", ".well-known/openid-configuration", openid_configuration, "OpenID discovery"),
    Endpoint("GET", "jwks", jwks, "Public keys of id_tokens"),
    Endpoint("GET", "style.json", style, "Colours and sizes for apps (SMART)"),
    Endpoint("GET", "style.css", _stylesheet, "Style of the pages"),
    _page("authorize", authorize, "An app asks for access", "authorize", "nothing"),
    _form("authorize", authorize, "An app asks for access", "authorize", "nothing"),
    _page("continue", continue_, "The page that is next", asks="nothing"),
    _form("login", login, "Sign in", "login", "nothing"),
    _page("external", external, "To the external login provider", "login", "nothing"),
    _page("external/callback", callback, "Back from it", "login", "nothing"),
    _form("patient", patient, "Choose a patient", "authorize"),
    _form("encounter", encounter, "Choose a visit", "authorize"),
    _form("consent", consent, "Allow or refuse", "authorize"),
    _page("", home, "Your account"),
    _page("apps", apps, "Apps with access"),
    _form("apps/withdraw", withdraw, "Withdraw access", "withdraw"),
    _page("factor", factor, "The second step of signing in"),
    _form("factor", change_factor, "Set it up, or change it", "second-factor"),
    _page("logout", logout_page, "Sign out?"),
    _form("logout", logout, "Sign out", "logout"),
    _call("token", token, "Tokens for codes and keys", "token"),
    _call("introspect", introspect, "What a token is", "introspect"),
    _call("revoke", revoke, "End a token", "revoke"),
    Endpoint("POST", "register", register, "An app registers", "bearer", False, "json", "register"),
    Endpoint("GET", "userinfo", userinfo, "Who the user is", "bearer", event="userinfo"),
    _call("userinfo", userinfo, "Who the user is", "userinfo", "bearer"),
    Endpoint("POST", "launch", launch, "Open an app", "bearer", body="json", event="launch"),
)


async def answer(server: Server, endpoint: Endpoint, ask: Ask) -> Reply:
    """The reply of an endpoint, its refusals included."""
    try:
        return await endpoint.handler(server, ask)
    except PageRefusal as refused:
        await _told(server, endpoint, ask, refused.key)
        return refusal(server, ask, refused.key, refused.status, refused.headers)
    except OAuthRefusal as refused:
        await _told(server, endpoint, ask, refused.error)
        if endpoint.page:
            return refusal(server, ask, "bad-request")
        return refused.reply()


async def _told(server: Server, endpoint: Endpoint, ask: Ask, reason: str) -> None:
    if endpoint.event is not None:
        what = "lockout" if reason == "too-many" else endpoint.event
        await note_refusal(server, ask, what, reason)


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
