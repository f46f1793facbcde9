"""The narrow source of the policy decision: recorded consents, and who somebody is.

It reads the store beside every policy, for the decision alone. All consents in force are kept,
about 3 KB each, and follow the history of the type whenever the policy epoch has moved.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Final

import structlog

from fhir_server.access.consent.decision import NOT_EVEN_THEN, Rules
from fhir_server.access.consent.domain import Implicit
from fhir_server.access.consent.epoch import ERASED, POLICY
from fhir_server.access.consent.provisions import ALWAYS, Consent, Provision, consent_of, local
from fhir_server.access.consent.relating import Relating
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import FUTURE
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key, Stored
from fhir_server.search.extract import local_references
from fhir_server.search.plan import Any, History, ReferenceIs, Scan, Search
from fhir_server.search.schema import SearchSchema
from fhir_server.store.base import Store

log = structlog.get_logger("vehr.consent")

PAGE: Final = 500
TYPE: Final = "Consent"
MOST_NAMES: Final = 5_000
"""Roles, organizations, teams and groups that one person may have."""


@dataclass(frozen=True, slots=True)
class Here:
    """``base``: URL of the record. ``zone``: of dates without one. ``implicit``: what holds for
    patients who have recorded nothing. ``minutes``: how long the glass stays broken."""

    base: str
    zone: tzinfo
    implicit: Implicit = "basic-normal"
    minutes: int = 60


class PolicySource:
    """Of one store."""

    def __init__(self, store: Store, schema: SearchSchema, here: Here) -> None:
        self._store = store
        self.here = here
        self._relating = Relating(schema)
        self._reading = asyncio.Lock()
        self._epoch = -1
        self._erased = -1
        self._since = 0
        self._held: dict[str, Consent] = {}
        self._owners: dict[str, str] = {}
        self._rules = Rules({}, self._relating, here.implicit)
        self._moments: list[int] = []
        self._names: dict[str, frozenset[str]] = {}

    @property
    def implicit(self) -> Implicit:
        """What holds for patients who have recorded nothing."""
        return self.here.implicit

    async def rules(self, epoch: int) -> Rules:
        """What holds under this epoch, or a newer one."""
        if epoch > self._epoch:
            async with self._reading:
                if epoch > self._epoch:
                    await self._refresh()
                    self._names.clear()
                    self._epoch = epoch
        return self._rules

    async def drafted(self, rules: Rules, draft: Json) -> Rules:
        """As if a Consent were recorded, in place of one with its id; what is not in force, or
        about nobody, changes nothing."""
        consent = consent_of(draft, 0, self.here.zone, self.here.base)
        if consent is None:
            return rules
        held = rules.consents.get(consent.patient, ())
        kept = tuple(one for one in held if one.id != consent.id)
        named = {}
        for key in related(consent.root):
            [stored] = await self._store.current([key])
            named[key] = self._references(stored)
        by = {**rules.consents, consent.patient: (*kept, consent)}
        return replace(rules, consents=by, relating=rules.relating.over(named))

    def until(self, now: int) -> int:
        """When the next rule of anybody begins or ends to hold; microseconds."""
        place = bisect_right(self._moments, now)
        return self._moments[place] if place < len(self._moments) else FUTURE

    async def _refresh(self) -> None:
        row = await self._store.ledger.get(POLICY, ERASED)
        erased = 0 if row is None else row.revision
        if erased != self._erased:
            self._held, self._owners, self._since = {}, {}, 0
        changed = await self._changed()
        if not changed and erased == self._erased:
            return
        self._erased = erased
        for stored in changed:
            self._held.pop(stored.key.id, None)
            self._owned(stored)
            consent = None if stored.deleted else self._read(stored)
            if consent is not None:
                self._held[stored.key.id] = consent
        by: dict[str, tuple[Consent, ...]] = {}
        for consent in self._held.values():
            by[consent.patient] = (*by.get(consent.patient, ()), consent)
        relating = self._relating.over(await self._named())
        recorded: dict[str, tuple[str, ...]] = {}
        for id_, patient in sorted(self._owners.items()):
            recorded[patient] = (*recorded.get(patient, ()), id_)
        self._rules = Rules(by, relating, self.here.implicit, recorded)
        self._moments = sorted({m for consent in self._held.values() for m in consent.moments()})

    async def _changed(self) -> list[Stored]:
        """The newest version of every Consent that has changed since the last look."""
        found: dict[Key, Stored] = {}
        newest, before = self._since, None
        while True:
            page = await self._store.versions(History(TYPE, count=PAGE, before=before))
            for stored in page.entries:
                if stored.seq <= self._since:
                    break
                newest = max(newest, stored.seq)
                found.setdefault(stored.key, stored)
            else:
                before = page.next
                if before is not None:
                    continue
            self._since = newest
            return list(found.values())

    def _owned(self, stored: Stored) -> None:
        self._owners.pop(stored.key.id, None)
        patient = (
            None if stored.deleted else local(loads(stored.body).get("patient"), self.here.base)
        )
        if patient is not None:
            self._owners[stored.key.id] = patient.id

    def _read(self, stored: Stored) -> Consent | None:
        try:
            resource = loads(stored.body)
            return consent_of(resource, stored.version, self.here.zone, self.here.base)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # It may deny what nobody can read any more: until it is mended it denies everything.
            log.error("a Consent cannot be read", id=stored.key.id, error=type(error).__name__)
            return self._denying(stored)

    def _denying(self, stored: Stored) -> Consent | None:
        patient = local(loads(stored.body).get("patient"), self.here.base)
        if patient is None:
            return None
        rule = Provision(False, ALWAYS)
        return Consent(stored.key.id, stored.version, patient.id, rule, policy=NOT_EVEN_THEN)

    async def _named(self) -> dict[Key, frozenset[Key]]:
        """What the instances refer to that consents name with all that is related."""
        found: dict[Key, frozenset[Key]] = {}
        for consent in self._held.values():
            for key in related(consent.root):
                if key not in found:
                    [stored] = await self._store.current([key])
                    found[key] = self._references(stored)
        return found

    def _references(self, stored: Stored | None) -> frozenset[Key]:
        if stored is None or stored.deleted:
            return frozenset()
        found = local_references(loads(stored.body), self.here.base)
        return frozenset(Key(type_, id_) for type_, id_, _ in found)

    async def names(self, person: str) -> frozenset[str]:
        """All that a person (``Type/id``) is by the record: roles, organizations and those that
        these are part of, care teams, groups."""
        known = self._names.get(person)
        if known is None:
            known = self._names[person] = await self._gathered(person)
        return known

    async def _gathered(self, person: str) -> frozenset[str]:
        if not person:
            return frozenset()
        found = {person}
        if person.startswith("Organization/"):
            found |= await self._organizations({"reference": person})
        if person.startswith("Practitioner/"):
            for role in await self._referring("PractitionerRole", "practitioner", {person}):
                if role.get("active") is not False:
                    found.add(f"PractitionerRole/{role['id']}")
                    found |= await self._organizations(role.get("organization"))
        for team in await self._referring("CareTeam", "participant", found):
            if team.get("status") in (None, "active"):
                found.add(f"CareTeam/{team['id']}")
        for group in await self._referring("Group", "member", found):
            if is_member(group, found, self.here.base):
                found.add(f"Group/{group['id']}")
        return frozenset(found)

    async def _organizations(self, reference: Json | None) -> set[str]:
        """An organization, and those that it is part of."""
        found: set[str] = set()
        while True:
            key = local(reference, self.here.base)
            if key is None or str(key) in found or len(found) > MOST_NAMES:
                return found
            found.add(str(key))
            [stored] = await self._store.current([key])
            if stored is None or stored.deleted:
                return found
            reference = loads(stored.body).get("partOf")

    async def _referring(self, type_: str, param: str, to: Iterable[str]) -> list[Json]:
        named = (name.partition("/") for name in sorted(to))
        where = Any(tuple(ReferenceIs(param, target, id_) for target, _, id_ in named))
        search = Search((Scan(type_, where),), count=MOST_NAMES, total="none")
        page = await self._store.run(search)
        return [loads(match.body) for match in page.matches]


def related(rule: Provision) -> Iterable[Key]:
    """The instances that a rule names with all that is related to them."""
    for datum in rule.data:
        if datum.meaning == "related":
            yield Key(datum.type, datum.id)
    for inner in rule.inner:
        yield from related(inner)


def is_member(group: Json, names: Iterable[str], base: str) -> bool:
    """Is one of these an active member of an active, actual group?"""
    if group.get("active") is False or group.get("actual") is False:
        return False
    wanted = set(names)
    return any(
        str(local(member.get("entity"), base)) in wanted and member.get("inactive") is not True
        for member in group.get("member", ())
    )
