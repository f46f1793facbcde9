"""Administration over HTTP: users, clients, relationships, sessions, approvals and keys, as JSON.

For who holds the role ``admin`` and a token with the scope ``administration``, which no other
scope includes. The acts are those of the commands (``auth/administration.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, cast

import jsonschema

from fhir_server.auth.admin_schemas import (
    CLIENT_CHANGE,
    INVITATION,
    NEW_CLIENT,
    NEW_RELATION,
    NEW_USER,
    RELATION_END,
    USER_CHANGE,
)
from fhir_server.auth.administration import Actor, Administration, SignedIn
from fhir_server.auth.approvals import Approval
from fhir_server.auth.clients import Client, Method, hashed_secret
from fhir_server.auth.endpoints.userinfo import of_user
from fhir_server.auth.exchange import Ask, OAuthRefusal, Reply, json_reply
from fhir_server.auth.invitations import MINUTES, SCOPE
from fhir_server.auth.negotiation import ADMINISTRATION
from fhir_server.auth.notes import note
from fhir_server.auth.ports import SecurityEvent
from fhir_server.auth.relations import FOREVER, Relation, birthday
from fhir_server.auth.server import Server
from fhir_server.auth.users import User
from fhir_server.model.problem import BadRequest, Conflict, NotFound

ROLE: Final = "admin"
Act = Callable[[Server, Ask, Administration], Awaitable[Reply]]


def administered(act: Act) -> Callable[[Server, Ask], Awaitable[Reply]]:
    """The endpoint of an act: who asks is judged first."""

    async def endpoint(server: Server, ask: Ask) -> Reply:
        try:
            grant, user = await of_user(server, ask)
        except OAuthRefusal as refusal:
            await note(server, ask, "admin", "refused", reason=refusal.error, target=ask.path)
            raise
        if user.role != ROLE or ADMINISTRATION not in grant.scope.split():
            await _refused(server, ask, user, grant.client)
            raise OAuthRefusal(
                "insufficient_scope", "this is for administrators, with their scope", 403
            )
        if ask.method != "GET":
            server.rates.spend_delicate(user.name)
        actor = Actor(user.name, grant.client, ask.address, ask.request)
        try:
            return await act(server, ask, Administration(server.identities, actor))
        except NotFound as problem:
            raise OAuthRefusal("not_found", str(problem), 404) from None
        except Conflict as problem:
            raise OAuthRefusal("conflict", str(problem), 409) from None

    return endpoint


async def _refused(server: Server, ask: Ask, user: User, client: str) -> None:
    who = {"user": user.name, "client": client, "address": ask.address, "request": ask.request}
    await server.identities.log.record(
        SecurityEvent("admin", "refused", reason="insufficient_scope", target=ask.path, **who)
    )


def _given(ask: Ask, schema: dict[str, Any]) -> dict[str, Any]:
    """The body, if it fits. BadRequest says where it does not."""
    body = ask.body if ask.body is not None else {}
    for error in jsonschema.Draft202012Validator(schema).iter_errors(body):
        place = ".".join(map(str, error.absolute_path)) or "the body"
        raise BadRequest(f"{place}: {_fault(error)}")
    return body


def _fault(error: jsonschema.ValidationError) -> str:
    """What is wrong, without the value, which may be a password, as the message has it."""
    given, schema = cast(Any, error.instance), cast(Any, error.schema)
    if error.validator == "additionalProperties":
        return f"{', '.join(sorted(given.keys() - schema['properties'].keys()))[:100]} is not known"
    if error.validator == "required":
        return f"{', '.join(name for name in schema['required'] if name not in given)} is missing"
    return f"{error.validator} is not met"


def _asked(ask: Ask, name: str) -> str:
    found = [value for key, value in ask.query if key == name]
    return found[0] if found else ""


async def users(server: Server, ask: Ask, admin: Administration) -> Reply:
    return json_reply({"users": [_user(one) for one in await server.identities.users.all()]})


async def user(server: Server, ask: Ask, admin: Administration) -> Reply:
    return json_reply(_user(await server.identities.users.named(ask.captured[0])))


async def add_user(server: Server, ask: Ask, admin: Administration) -> Reply:
    """Without a password one is made, and shown this once."""
    body = _given(ask, NEW_USER)
    person, given = body.get("fhirUser", ""), body.get("password", "")
    made, password = await admin.add_user(body["name"], body["role"], person, given)
    return json_reply({**_user(made), **({} if given else {"password": password})}, 201)


async def change_user(server: Server, ask: Ask, admin: Administration) -> Reply:
    """Each member that is given is changed; ``secondFactor`` can only be taken away."""
    name, body = ask.captured[0], _given(ask, USER_CHANGE)
    known = {"role": "role", "fhirUser": "fhir_user", "disabled": "disabled"}
    values = {known[member]: value for member, value in body.items() if member in known}
    identity = _identity(server, body.get("identity", ""))
    await server.identities.users.named(name)
    if values:
        await admin.change_user(name, **values)
    if "password" in body:
        await admin.set_password(name, body["password"])
    if "secondFactor" in body:
        await admin.remove_factor(name)
    if "identity" in body:
        await admin.link(name, identity)
    return json_reply(_user(await server.identities.users.named(name)))


def _identity(server: Server, value: str) -> str:
    """A claim of the configured provider, or the identity as it is shown; empty unlinks."""
    if value and server.external is None:
        raise BadRequest("there is no external login provider")
    return server.external.provider.meant(value) if value and server.external else ""


async def clients(server: Server, ask: Ask, admin: Administration) -> Reply:
    return json_reply({"clients": [_client(c) for c in await server.identities.clients.all()]})


async def client(server: Server, ask: Ask, admin: Administration) -> Reply:
    found = await server.identities.clients.find(ask.captured[0])
    if found is None:
        raise NotFound("the client is not known")
    return json_reply(_client(found))


async def add_client(server: Server, ask: Ask, admin: Administration) -> Reply:
    body = _given(ask, NEW_CLIENT)
    plain = Client(body["id"], body["id"], "public", (), "", "", None, False)
    made = _changed(plain, body)
    await admin.add_client(made)
    return json_reply(_client(made), 201)


async def change_client(server: Server, ask: Ask, admin: Administration) -> Reply:
    body = _given(ask, CLIENT_CHANGE)
    made = await admin.change_client(ask.captured[0], lambda found: _changed(found, body))
    return json_reply(_client(made))


def _changed(known: Client, body: dict[str, Any]) -> Client:
    """The client with what is given; how it says who it is follows from secret and keys."""
    keys = body.get("jwks", body.get("jwksUri"))
    if keys is not None and "secret" in body:
        raise BadRequest("a client has a secret or keys")
    method: Method = known.method
    secret, found = known.secret, known.keys
    if "secret" in body:
        method, secret, found = "secret", hashed_secret(body["secret"]), None
    elif keys is not None:
        method, secret, found = "keys", "", keys
    return replace(
        known,
        name=body.get("name", known.name),
        method=method,
        redirects=tuple(body.get("redirects", known.redirects)),
        scope=body.get("scope", known.scope),
        secret=secret,
        keys=found,
        disabled=body.get("disabled", known.disabled),
    )


async def invite(server: Server, ask: Ask, admin: Administration) -> Reply:
    """A token by which one app may register itself."""
    body = _given(ask, INVITATION)
    token = await admin.invite(body.get("scope", SCOPE), body.get("minutes", MINUTES))
    return json_reply({"token": token}, 201)


async def relations(server: Server, ask: Ask, admin: Administration) -> Reply:
    user, patient = _asked(ask, "user"), _asked(ask, "patient")
    of = server.identities.relations
    found = await (of.of(user) if user else of.all())
    return json_reply({"relations": [_relation(r) for r in found if patient in ("", r.patient)]})


async def add_relation(server: Server, ask: Ask, admin: Administration) -> Reply:
    body = _given(ask, NEW_RELATION)
    start = _moment(body["start"]) if "start" in body else server.now
    end = _moment(body["end"]) if "end" in body else FOREVER
    if "untilAge" in body:
        born = "".join(chart.born for chart in await server.record.charts((body["patient"],)))
        end = min(end, birthday(born, body["untilAge"], server.rules.time_zone))
    made = Relation(body["user"], body["patient"], body["kind"], start, end)
    await admin.add_relation(made)
    return json_reply(_relation(made), 201)


async def end_relation(server: Server, ask: Ask, admin: Administration) -> Reply:
    body = _given(ask, RELATION_END)
    ended = await admin.end_relation(body["user"], body["patient"], body.get("kind", ""))
    return json_reply({"relations": [_relation(one) for one in ended]})


async def sessions(server: Server, ask: Ask, admin: Administration) -> Reply:
    found = await admin.sessions(_asked(ask, "user"))
    return json_reply({"sessions": [_session(one) for one in found]})


async def end_session(server: Server, ask: Ask, admin: Administration) -> Reply:
    await admin.end_session(ask.captured[0])
    return Reply(204)


async def approvals(server: Server, ask: Ask, admin: Administration) -> Reply:
    found = await admin.approvals(_asked(ask, "user"))
    return json_reply({"approvals": [_approval(one) for one in found]})


async def withdraw_approval(server: Server, ask: Ask, admin: Administration) -> Reply:
    await admin.withdraw(ask.captured[0])
    return Reply(204)


async def keys(server: Server, ask: Ask, admin: Administration) -> Reply:
    """Ids of the published signing keys, the one in use first."""
    found = server.keys.known()
    return json_reply({"keys": [{"kid": kid, "created": _instant(at)} for kid, at in found]})


async def rotate_keys(server: Server, ask: Ask, admin: Administration) -> Reply:
    kid = server.keys.rotate()
    await admin.rotated(kid)
    return json_reply({"kid": kid}, 201)


def _user(one: User) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.role,
        "fhirUser": one.fhir_user,
        "disabled": one.disabled,
        "secondFactor": bool(one.totp),
        "identity": one.identity,
        "subject": one.subject,
    }


def _client(one: Client) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": one.id,
        "name": one.name,
        "method": one.method,
        "redirects": list(one.redirects),
        "scope": one.scope,
        "disabled": one.disabled,
    }
    if one.keys is not None:
        found["jwksUri" if isinstance(one.keys, str) else "jwks"] = one.keys
    return found


def _relation(one: Relation) -> dict[str, Any]:
    found = {"user": one.user, "patient": one.patient, "kind": one.kind}
    found["start"] = _instant(one.start)
    return found if one.end == FOREVER else {**found, "end": _instant(one.end)}


def _session(one: SignedIn) -> dict[str, Any]:
    return {
        "id": one.id,
        "user": one.user,
        "since": _instant(one.since),
        "seen": _instant(one.seen),
    }


def _approval(one: Approval) -> dict[str, Any]:
    return {
        "id": one.id,
        "user": one.held.user,
        "client": one.held.client,
        "patient": one.held.patient,
        "scope": one.held.scope,
        "created": _instant(one.created),
        "used": _instant(one.used),
    }


def _instant(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("start and end are instants such as 2030-12-31T00:00:00Z") from None
    if found.tzinfo is None:
        raise BadRequest("start and end name their time zone")
    return found.timestamp()
