"""The gate: the only maker of Sessions. No route passes by it.

``--open`` binds a permit-all policy; otherwise a request needs a bearer token whose grant
is looked up at every request, so that a revocation acts on the next one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from fhir_server.access.audit.decisions import DecisionRecord, decided
from fhir_server.access.audit.entry import purpose_of_use
from fhir_server.access.break_glass import Asked, BreakGlass, only_reading
from fhir_server.access.consent.asking import Reader
from fhir_server.access.consent.assembly import Patients
from fhir_server.access.consent.codes import (
    BREAK_GLASS,
    OWN_REQUEST,
    PURPOSES,
    TREATMENT,
    below,
)
from fhir_server.access.consent.policy import ConsentPolicy
from fhir_server.access.engine import Engine
from fhir_server.access.policy import CompileFilter, PermitAll, Policy, ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.roles import Standing
from fhir_server.access.scopes import parse_rights, parse_scopes
from fhir_server.access.session import Renew, Session
from fhir_server.model.datatypes import FUTURE
from fhir_server.model.problem import BadRequest, Forbidden, Problem, Unauthorized
from fhir_server.store.asking import asking

REMEMBERED: Final = 4096
"""Compiled policies kept; they are rebuilt when a grant changes."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token stands for. ``revision`` changes whenever the grant does.

    ``epoch``: the policy epoch under which it was looked up (``consent/epoch``). ``standing``: of
    the user; a user without one reaches nothing. ``expires``: when the token does (epoch seconds).
    """

    id: str
    client: str
    user: str
    scope: str
    patient: str | None
    revision: int
    standing: Standing | None = None
    epoch: int = 0
    expires: float = math.inf


VerifyToken = Callable[[str], Awaitable[Grant | None]]
"""Opaque access token -> its grant, None if unknown, expired or revoked."""


Recall = Callable[[str], Awaitable[Grant | None]]
"""The id of a grant -> the grant, None if it is unknown, expired or revoked."""


async def forgetful(grant: str) -> Grant | None:
    """Recalls nothing: there is no work that outlives its request."""
    return None


MakePolicy = Callable[[Principal, Mapping[str, tuple[str, ...]], CompileFilter], Policy]
"""(principal, the Patient compartment, how scopes are compiled) -> what is permitted apart from
consents."""


class _Known(NamedTuple):
    session: Session
    until: int


class Gate:
    """One per face. ``patients`` None: nobody has recorded a consent, and none is looked for."""

    def __init__(
        self,
        engine: Engine,
        verify: VerifyToken,
        compile_filter: CompileFilter,
        *,
        recall: Recall = forgetful,
        patients: Patients | None = None,
        open_: bool = False,
        policy: MakePolicy = ScopePolicy,
    ) -> None:
        self._engine = engine
        self._verify = verify
        self._recall = recall
        self._compile = compile_filter
        self._patients = patients
        self._policy = policy
        minutes = patients.source.here.minutes if patients is not None else 0
        self._break_glass = BreakGlass(engine, minutes)
        self.anonymous = Session(engine, ANONYMOUS, ScopePolicy(ANONYMOUS, {}, compile_filter))
        """The Session of public routes: it permits nothing."""
        self._open = Session(engine, OPEN, PermitAll()) if open_ else None
        self._known: dict[tuple[str, int, int, str], _Known] = {}

    async def admit(
        self, authorization: str | None, purpose: str = "", asked: Asked | None = None
    ) -> Session:
        """The Session of a request by its Authorization header; Unauthorized without one.

        ``purpose``: why the data is wanted, as its header says; empty: as the role has it.
        ``asked``: the request, if it states one, which may be to break the glass.
        """
        if self._open is not None:
            asking.set(OPEN.id)
            return self._open
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("a bearer token is needed", headers=CHALLENGE)
        grant = await self._verify(token)
        if grant is None:
            raise Unauthorized("the token is not valid", headers=INVALID_TOKEN)
        if asked is not None:
            asked.known(self._principal(grant, ""))
            if purpose_of_use(purpose) == BREAK_GLASS:
                return await self._breaking(grant, asked)
        return await self._session(grant, purpose)

    async def reopen(self, grant_id: str, purpose: str = "") -> Session:
        """The Session of work that outlives its request, judged anew by its grant
        (``Principal.grant``); Unauthorized once that does not stand any more.
        """
        if self._open is not None and not grant_id:
            return self._open
        grant = await self._recall(grant_id) if grant_id else None
        if grant is None:
            raise Unauthorized(ENDED)
        return await self._session(grant, purpose)

    def _renewing(self, grant: Grant, purpose: str) -> Renew:
        """For a request that is still being answered. A token that has run out meanwhile was
        not taken away: who sees the domain whole goes on."""

        async def renew() -> Session:
            now = await self._recall(grant.id)
            if now is not None:
                return await self._session(now, purpose)
            known = await self._session(grant, purpose)
            if known.policy.whole and grant.expires <= self._engine.now() / 1e6:
                return known
            raise Unauthorized(ENDED)

        return renew

    async def of(self, grant: Grant, purpose: str = "") -> Session:
        """The Session of a grant that was judged elsewhere; without a purpose for its usual one."""
        return await self._session(grant, purpose)

    async def _session(self, grant: Grant, purpose: str) -> Session:
        asking.set(f"{grant.client} {grant.user}")
        key = (grant.id, grant.revision, grant.epoch, purpose)
        known = self._known.get(key)
        if known is None or known.until <= self._engine.now():
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            principal, renew = self._principal(grant, purpose), self._renewing(grant, purpose)
            known = self._known[key] = await self._judge(grant, principal, renew)
        return known.session

    async def _breaking(self, grant: Grant, asked: Asked) -> Session:
        """Made anew for each request, so that it ends with the act."""
        asking.set(f"{grant.client} {grant.user}")
        broken = await self._break_glass.broken(grant.user, grant.standing, asked)
        plain = self._principal(grant, "")
        standing = replace(plain.standing or Standing(""), patients=tuple(sorted(broken)))
        principal = replace(
            plain, scopes=only_reading(plain.scopes), standing=standing, purpose=BREAK_GLASS
        )
        await self._told(principal, grant, broken, asked)

        async def renew() -> Session:
            """While the act holds; none is begun by it."""
            now = await self._recall(grant.id)
            right = now is not None and await self._break_glass.holding(
                grant.user, now.standing, broken
            )
            if now is None or not right:
                raise Unauthorized(ENDED)
            return (await self._judge(now, principal, renew, broken)).session

        return (await self._judge(grant, principal, renew, broken)).session

    async def _told(
        self, principal: Principal, grant: Grant, broken: frozenset[str], asked: Asked
    ) -> None:
        """To the audit trail, with the consents over which the glass is broken."""
        held = (await self._patients.source.rules(grant.epoch)).consents if self._patients else {}
        for patient in sorted(broken):
            consents = tuple((one.id, one.version) for one in held.get(patient, ()))
            why = asked.reason.strip()
            record = DecisionRecord(
                principal, patient, consents, "break-glass", "permit", why, BREAK_GLASS
            )
            decided(asked.recording, record)

    async def _judge(
        self,
        grant: Grant,
        principal: Principal,
        renew: Renew,
        broken: frozenset[str] = frozenset(),
    ) -> _Known:
        compartment = self._engine.definitions.compartment("Patient")
        policy = self._policy(principal, compartment, self._compile)
        if self._patients is None or (principal.system and principal.purpose in OPERATIONAL):
            return _Known(Session(self._engine, principal, policy, None, renew), FUTURE)
        source, now = self._patients.source, self._engine.now()
        rules = await source.rules(grant.epoch)
        standing = principal.standing
        names = await source.names(standing.fhir_user) if standing is not None else frozenset()
        reader = Reader(names, *principal.is_for(), principal.purpose, now, broken)
        narrowed = ConsentPolicy(policy, reader, rules, self._patients.ties, _reached(principal))
        return _Known(Session(self._engine, principal, narrowed, None, renew), source.until(now))

    def _principal(self, grant: Grant, purpose: str) -> Principal:
        try:
            scopes = parse_scopes(grant.scope, self._engine.definitions.resource_types)
        except Problem as problem:
            raise Unauthorized("the token's scope is not valid", headers=INVALID_TOKEN) from problem
        standing = grant.standing
        if grant.user and standing is None:
            standing = Standing("")
        opened = standing is not None and "fhirUser" in grant.scope.split()
        return Principal(
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
            purpose=purpose_stated(purpose, standing.role if standing is not None else ""),
        )


def purpose_stated(header: str, role: str) -> str:
    """Why data is wanted (v3-ActReason): as a header says, else what is usual for the role.

    BadRequest for what is no purpose of use.
    """
    if not header:
        return USUAL.get(role, TREATMENT)
    code = purpose_of_use(header)
    if code not in PURPOSES:
        raise BadRequest("X-Purpose-Of-Use is not a purpose of use (v3-ActReason)")
    if code == BREAK_GLASS:
        raise Forbidden("not permitted: the glass is broken for one request at a time")
    return code


def _reached(principal: Principal) -> tuple[str, ...]:
    standing = principal.standing
    if standing is not None:
        return standing.patients
    return (principal.patient,) if principal.patient else ()


def system_session(engine: Engine, purpose: str) -> Session:
    """A session for the server's own named work (loading, jobs); never for a request."""
    return Session(engine, Principal(id=f"system:{purpose}", system=True), PermitAll())


ENDED: Final = "the authorisation of this work does not stand any more"
USUAL: Final = {"patient": OWN_REQUEST, "researcher": "HRESCH", "admin": "HOPERAT"}
"""What a role usually wants data for; others treat."""
OPERATIONAL: Final = below(TREATMENT) | below("HPAYMT") | below("HOPERAT")
"""The purposes for which a domain's own systems see the domain whole."""
OPEN: Final = Principal(id="open", system=True)
ANONYMOUS: Final = Principal(id="anonymous")
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="fhir"'}
INVALID_TOKEN: Final = {"WWW-Authenticate": 'Bearer realm="fhir", error="invalid_token"'}
