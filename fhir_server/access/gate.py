"""The gate: the only maker of Sessions. No route passes by it.

``--open`` binds a permit-all policy; otherwise a request needs a bearer token whose grant
is looked up at every request, so that a revocation acts on the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.access.engine import Engine
from fhir_server.access.policy import CompileFilter, PermitAll, Policy, ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.roles import Standing
from fhir_server.access.scopes import parse_rights, parse_scopes
from fhir_server.access.session import Session
from fhir_server.model.problem import Problem, Unauthorized
from fhir_server.store.asking import asking

REMEMBERED: Final = 4096
"""Compiled policies kept; they are rebuilt when a grant changes."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token stands for. ``revision`` changes whenever the grant does.

    ``standing``: of the user; a user without one reaches nothing.
    """

    id: str
    client: str
    user: str
    scope: str
    patient: str | None
    revision: int
    standing: Standing | None = None


VerifyToken = Callable[[str], Awaitable[Grant | None]]
"""Opaque access token -> its grant, None if unknown, expired or revoked."""


Recall = Callable[[str], Awaitable[Grant | None]]
"""The id of a grant -> the grant, None if it is unknown, expired or revoked."""


async def forgetful(grant: str) -> Grant | None:
    """Recalls nothing: there is no work that outlives its request."""
    return None


class Gate:
    """One per face."""

    def __init__(
        self,
        engine: Engine,
        verify: VerifyToken,
        compile_filter: CompileFilter,
        *,
        recall: Recall = forgetful,
        open_: bool = False,
    ) -> None:
        self._engine = engine
        self._verify = verify
        self._recall = recall
        self._compile = compile_filter
        self.anonymous = Session(engine, ANONYMOUS, ScopePolicy(ANONYMOUS, {}, compile_filter))
        """The Session of public routes: it permits nothing."""
        self._open = Session(engine, OPEN, PermitAll()) if open_ else None
        self._known: dict[tuple[str, int], Session] = {}

    async def admit(self, authorization: str | None) -> Session:
        """The Session of a request by its Authorization header; Unauthorized without one."""
        if self._open is not None:
            asking.set(OPEN.id)
            return self._open
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("a bearer token is needed", headers=CHALLENGE)
        grant = await self._verify(token.strip())
        if grant is None:
            raise Unauthorized("the token is not valid", headers=INVALID_TOKEN)
        return self._session(grant)

    async def reopen(self, grant_id: str) -> Session:
        """The Session of work that outlives its request, judged anew by its grant
        (``Principal.grant``); Unauthorized once that does not stand any more.
        """
        if self._open is not None and not grant_id:
            return self._open
        grant = await self._recall(grant_id) if grant_id else None
        if grant is None:
            raise Unauthorized("the authorisation of this work does not stand any more")
        return self._session(grant)

    def _session(self, grant: Grant) -> Session:
        asking.set(f"{grant.client} {grant.user}")
        key = (grant.id, grant.revision)
        session = self._known.get(key)
        if session is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            session = self._known[key] = Session(self._engine, *self._judge(grant))
        return session

    def _judge(self, grant: Grant) -> tuple[Principal, Policy]:
        try:
            scopes = parse_scopes(grant.scope, self._engine.definitions.resource_types)
        except Problem as problem:
            raise Unauthorized("the token's scope is not valid", headers=INVALID_TOKEN) from problem
        standing = grant.standing
        if grant.user and standing is None:
            standing = Standing("")
        opened = standing is not None and "fhirUser" in grant.scope.split()
        principal = Principal(
            id=grant.user or grant.client,
            scopes=scopes,
            client=grant.client,
            user=grant.user,
            patient=grant.patient,
            system=not grant.user and grant.patient is None,
            grant=grant.id,
            rights=parse_rights(grant.scope),
            standing=standing,
            fhir_user=standing.fhir_user if opened and standing is not None else "",
        )
        compartment = self._engine.definitions.compartment("Patient")
        return principal, ScopePolicy(principal, compartment, self._compile)


def system_session(engine: Engine, purpose: str) -> Session:
    """A session for the server's own named work (loading, jobs); never for a request."""
    return Session(engine, Principal(id=f"system:{purpose}", system=True), PermitAll())


OPEN: Final = Principal(id="open", system=True)
ANONYMOUS: Final = Principal(id="anonymous")
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="fhir"'}
INVALID_TOKEN: Final = {"WWW-Authenticate": 'Bearer realm="fhir", error="invalid_token"'}
