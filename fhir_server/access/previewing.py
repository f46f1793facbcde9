"""What somebody would see of a patient: the gate's own decision, made for another reader.

The reader is who the record and the users say that this person is; rules, relationships and
purpose are those that a request would be judged by at the moment asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.assembly import Patients
from fhir_server.access.consent.codes import BREAK_GLASS
from fhir_server.access.consent.decision import Rules, decide, in_force, says
from fhir_server.access.consent.epoch import EPOCH, POLICY
from fhir_server.access.consent.paths import decisive
from fhir_server.access.consent.policy import HIDDEN, ConsentPolicy
from fhir_server.access.consent.telling import facts_of
from fhir_server.access.engine import Engine
from fhir_server.access.gate import purpose_stated
from fhir_server.access.policy import ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.roles import Standing
from fhir_server.access.scopes import parse_scopes
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Stored
from fhir_server.search.plan import Predicate

Standings = Callable[[str, float], Awaitable[list[Standing]]]
"""(person as ``Type/id``, epoch second) -> what the users are who are this person."""

COLLECTIVE: Final = frozenset({"Organization", "CareTeam", "Group"})
"""Actors that stand for anybody of them."""
ASSUMED: Final = "consultant"
"""The role of whom no user is known."""
SCOPE: Final = "user/*.rs"


@dataclass(frozen=True, slots=True)
class Asked:
    """``actor``: ``Type/id``. ``purpose``: empty as is usual for the role. ``moment``:
    microseconds. ``draft``: a Consent that is not recorded yet. ``treating``: as if the actor
    cared for the patient.
    """

    patient: str
    actor: str
    purpose: str
    moment: int
    draft: Json | None = None
    treating: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is shown or hidden. ``consent``: the id of the one that decides, and ``rule``
    where in it; empty where none does. ``why``: relationship, role, others, implicit, unstated,
    permit, deny."""

    why: str
    consent: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The record as the actor has it. ``assumed``: role and relationship are a supposition."""

    session: Session
    standing: Standing
    reader: Reader
    rules: Rules
    patient: str
    assumed: bool

    @property
    def reached(self) -> bool:
        return self.patient in self.standing.patients

    def reason(self, facts: Facts, *, seen: bool) -> Reason:
        """Why this is as it is; ``facts`` as ``Previewing.facts`` has them."""
        if not seen and not self.reached:
            return Reason("relationship")
        type_ = facts.key.type
        if not seen and (type_ in HIDDEN or not self.session.policy.allows("r", type_)):
            return Reason("role")
        alone = replace(facts, patients=(self.patient,))
        decision = decide(alone, "r", self.reader, self.rules)
        if decision.permitted != seen:
            return Reason("others")
        if seen and self.patient in self.reader.broken:
            return Reason("implicit")
        consents = self.rules.consents.get(self.patient, ())
        active = [c for c in consents if in_force(c, self.reader)]
        if not active:
            return Reason("implicit")
        for consent in active:
            if says(consent, alone, "r", self.reader, self.rules) is seen:
                path = decisive(consent.root, alone, "r", seen, self.reader, self.rules)
                return Reason("permit" if seen else "deny", consent.id, path)
        return Reason("unstated", active[0].id if len(active) == 1 else "")


class Previewing:
    """Of one face."""

    def __init__(self, engine: Engine, patients: Patients, standings: Standings) -> None:
        self._engine = engine
        self._patients = patients
        self._standings = standings

    @property
    def compartment(self) -> tuple[str, ...]:
        """The types in which patients have data."""
        return tuple(self._engine.definitions.compartment("Patient"))

    @property
    def implicit(self) -> str:
        """What holds for patients who have recorded nothing."""
        return self._patients.source.implicit

    def named(self, type_: str, patient: str) -> Predicate:
        """What names the patient, of a type outside of the compartment."""
        return self._patients.ties.named(type_, patient)

    async def view(self, asked: Asked) -> View:
        """Look as the actor. BadRequest for a purpose that is none, or that is asked for in
        another way."""
        standing, assumed = await self._standing(asked)
        breaking = asked.purpose == BREAK_GLASS
        if breaking:
            standing = self._breaking(standing, asked.patient)
        principal = Principal(
            id="preview",
            scopes=parse_scopes(SCOPE, self._engine.definitions.resource_types),
            user="preview",
            standing=standing,
            purpose=BREAK_GLASS if breaking else purpose_stated(asked.purpose, standing.role),
        )
        compartment = self._engine.definitions.compartment("Patient")
        policy = ScopePolicy(principal, compartment, self._patients.scopes)
        source = self._patients.source
        names = await source.names(standing.fhir_user)
        rules = await self._rules()
        if asked.draft is not None:
            rules = await source.drafted(rules, asked.draft)
        broken = frozenset({asked.patient}) if breaking else frozenset()
        own = principal.is_for()
        reader = Reader(names, *own, principal.purpose, asked.moment, broken)
        narrowed = ConsentPolicy(policy, reader, rules, self._patients.ties, standing.patients)
        session = Session(self._engine, principal, narrowed)
        return View(session, standing, reader, rules, asked.patient, assumed)

    def _breaking(self, standing: Standing, patient: str) -> Standing:
        """As the gate has it: that patient alone. BadRequest for whom it is not permitted."""
        if not (standing.rights.breaks_glass and self._patients.source.here.minutes):
            text = "purpose: the actor may not break the glass"
            raise BadRequest(text, code="business-rule")
        return replace(standing, patients=(patient,))

    async def _rules(self) -> Rules:
        row = await self._engine.store.ledger.get(POLICY, EPOCH)
        return await self._patients.source.rules(0 if row is None else row.revision)

    async def _standing(self, asked: Asked) -> tuple[Standing, bool]:
        """The user behind the actor, rather one who cares for the patient; and is it supposed?"""
        collective = asked.actor.partition("/")[0] in COLLECTIVE
        found = [] if collective else await self._standings(asked.actor, asked.moment / 1e6)
        treats = [s for s in found if asked.patient in s.patients]
        standing = (treats or found or [Standing(ASSUMED if collective else "", asked.actor)])[0]
        if treats or not (asked.treating or collective):
            return standing, False
        role = standing.role or ASSUMED
        patients = (*standing.patients, asked.patient)
        return replace(standing, role=role, patients=patients), True

    def facts(self, stored: Stored) -> Facts:
        """What a decision looks at in a stored version."""
        return facts_of(stored, self._engine.extract(loads(stored.body)))
