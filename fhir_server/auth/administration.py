"""What administrators do to users, clients, relationships and sessions: the same acts by API and
by command, each told to the security log.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.access.roles import ROLES
from fhir_server.auth import totp
from fhir_server.auth.approvals import Approval, approvals_of, ending_with, withdrawal
from fhir_server.auth.clients import Client, check
from fhir_server.auth.identities import Identities
from fhir_server.auth.invitations import Invitations
from fhir_server.auth.ports import COMMAND, SecurityEvent
from fhir_server.auth.relations import Relation
from fhir_server.auth.users import User, check_person
from fhir_server.auth.websessions import KIND as SESSION
from fhir_server.auth.websessions import ending
from fhir_server.model.problem import BadRequest, NotFound


@dataclass(frozen=True, slots=True)
class Actor:
    """``user``: who administers. ``address``, ``request``: as of a SecurityEvent."""

    user: str
    client: str = ""
    address: str = ""
    request: str = ""


OPERATOR = Actor(COMMAND)
"""Who may run commands on the machine."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A living web session. ``id``: no cookie, but its hash. Epoch seconds."""

    id: str
    user: str
    since: float
    seen: float


class Administration:
    """Acts in the name of one actor."""

    def __init__(self, identities: Identities, actor: Actor = OPERATOR) -> None:
        self._of = identities
        self._actor = actor

    async def add_user(
        self, name: str, role: str, fhir_user: str = "", password: str = ""
    ) -> tuple[User, str]:
        """The user and the password, which is made if none is given."""
        word = password or secrets.token_urlsafe(12)
        user = await self._of.users.add(name, role, fhir_user=fhir_user, password=word)
        await self._told("add", f"user/{name}")
        return user, word

    async def change_user(self, name: str, **values: Any) -> User:
        """``role``, ``fhir_user``, ``disabled``: what they become. In another role, or as somebody
        else of the record, the user has let no app do anything yet.
        """
        if values.get("role", "patient") not in ROLES:
            raise BadRequest(f"{values['role']!r} is not a role: {', '.join(ROLES)}")
        check_person(values.get("fhir_user", ""))
        if "fhir_user" in values:
            values["fhirUser"] = values.pop("fhir_user")
        before = await self._of.users.named(name)
        user = await self._of.users.change(name, **values)
        if (user.role, user.fhir_user) != (before.role, before.fhir_user):
            gone = [withdrawal(one.id) for one in await self.approvals(name)]
            if gone:
                await self._of.records.commit_policy(*gone)
        await self._told("change", f"user/{name}")
        return user

    async def set_password(self, name: str, password: str) -> User:
        """The user's sessions end; apps keep what they were given."""
        user = await self._of.users.set_password(name, password)
        await self._end([one.id for one in await self._living(name)])
        await self._told("password", f"user/{name}")
        return user

    async def new_factor(self, name: str) -> str:
        """A new key of the second factor, in the place of any before."""
        key = totp.new_key()
        await self._of.users.change(name, totp=key, recovery=[])
        await self._told("otp", f"user/{name}")
        return key

    async def remove_factor(self, name: str) -> None:
        """The user signs in without, or enrols anew."""
        await self._of.users.change(name, totp="", recovery=[])
        await self._told("otp-removed", f"user/{name}")

    async def link(self, name: str, identity: str) -> User:
        """``identity``: by which an external provider knows the user; empty for none."""
        user = await self._of.users.link(name, identity)
        await self._told("link" if identity else "unlink", f"user/{name}")
        return user

    async def add_client(self, client: Client) -> None:
        _usable(client)
        await self._of.clients.add(client)
        await self._told("add", f"client/{client.id}")

    async def change_client(self, id_: str, change: Callable[[Client], Client]) -> Client:
        """NotFound, or BadRequest for what it cannot become."""
        found = await self._of.clients.find(id_)
        if found is None:
            raise NotFound(f"the client {id_!r} is not known")
        made = replace(change(found), id=id_)
        check(made)
        _usable(made)
        await self._of.clients.change(id_, **made.row())
        await self._told("change", f"client/{id_}")
        return made

    async def invite(self, scope: str, minutes: int) -> str:
        """A token by which one app may register itself, with no more than this scope."""
        token = await Invitations(self._of.records).make(scope, minutes)
        await self._told("invite", "client/*")
        return token

    async def add_relation(self, relation: Relation) -> None:
        await self._of.users.named(relation.user)
        await self._of.relations.add(relation)
        await self._told("add", f"relation/{relation.user}/{relation.kind}", relation.patient)

    async def end_relation(self, user: str, patient: str, kind: str = "") -> list[Relation]:
        ended = await self._of.relations.end(user, patient, kind)
        await self._told("end", f"relation/{user}/{kind or '*'}", patient)
        return ended

    async def sessions(self, user: str = "") -> list[SignedIn]:
        """Living web sessions, of one user or of all."""
        return await self._living(user)

    async def end_session(self, id_: str) -> None:
        """NotFound if there is none."""
        row = await self._of.records.get(SESSION, id_)
        if row is None:
            raise NotFound("the session is not known")
        await self._end([id_])
        await self._told("end", f"session/{row.value['user']}")

    async def approvals(self, user: str = "") -> list[Approval]:
        """What users let apps do, of one user or of all."""
        found = await approvals_of(self._of.records)
        return [one for one in found if user in ("", one.held.user)]

    async def withdraw(self, id_: str) -> None:
        """NotFound if there is none. Its tokens are refused from the next request on."""
        found = [one for one in await self.approvals() if one.id == id_]
        if not found:
            raise NotFound("the approval is not known")
        await self._of.records.commit_policy(withdrawal(id_))
        await self._told("withdraw", f"approval/{found[0].held.user}/{found[0].held.client}")

    async def rotated(self, kid: str) -> None:
        """The signing key was replaced."""
        await self._told("rotate", f"key/{kid}")

    async def _living(self, user: str) -> list[SignedIn]:
        rows = await self._of.records.scan(SESSION)
        found = [
            SignedIn(row.key, v["user"], v["since"], v["seen"]) for row in rows if (v := row.value)
        ]
        return [one for one in found if user in ("", one.user)]

    async def _end(self, sessions: list[str]) -> None:
        if sessions:
            lasting = await ending_with(self._of.records, sessions)
            await self._of.records.commit_policy(*map(ending, sessions), *lasting)

    async def _told(self, act: str, target: str, patient: str = "") -> None:
        actor: Mapping[str, str] = {
            "user": self._actor.user,
            "client": self._actor.client,
            "address": self._actor.address,
            "request": self._actor.request,
        }
        event = SecurityEvent(
            "admin", "success", patient=patient, reason=act, target=target, **actor
        )
        await self._of.log.record(event)


def _usable(client: Client) -> None:
    """BadRequest for a client that could never get a token."""
    if client.method == "public" and not client.redirects:
        raise BadRequest("a public client needs an address to redirect to")
