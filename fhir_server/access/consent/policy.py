"""A policy that consents narrow: what scopes, role and relationship reach, and patients permit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from fhir_server.access.audit.entry import Decision
from fhir_server.access.consent.asking import Reader
from fhir_server.access.consent.compiled import Compiler, either, every, negated
from fhir_server.access.consent.decision import Rules
from fhir_server.access.consent.telling import taking_part
from fhir_server.access.labels import SHARED
from fhir_server.access.policy import Policy
from fhir_server.access.roles import ABOUT, AUDIT
from fhir_server.access.roles import SHARED as SHARED_TYPES
from fhir_server.access.ties import PROVENANCE
from fhir_server.search.plan import (
    FALSE,
    TRUE,
    EachPatient,
    InPatient,
    Predicate,
    ReferenceIs,
    TokenIs,
    both,
)

HIDDEN: Final = frozenset({AUDIT, "Consent"})
"""Types that tell by their shape what is withheld: only the patients themselves read theirs, and
who audits the trail."""


@dataclass(frozen=True, slots=True)
class Ties:
    """How the resources of a type are tied to patients. ``params``: the indexes that put them into
    the compartment; None for a type without one. ``named``: (type, patient) -> what names the
    patient outside of it (``roles.ABOUT``); ``unnamed``: type -> what names nobody. ``maskable``:
    of a type (``consent/maskable``)."""

    params: Callable[[str], tuple[str, ...] | None]
    named: Callable[[str, str], Predicate]
    maskable: Callable[[str], frozenset[str]]
    unnamed: Callable[[str], Predicate]


class ConsentPolicy:
    """``inner``: scopes, role and relationship; ``reached``: the patients whom these reach."""

    def __init__(
        self,
        inner: Policy,
        reader: Reader,
        rules: Rules,
        ties: Ties,
        reached: tuple[str, ...] = (),
    ) -> None:
        self._inner = inner
        self._reader = reader
        self._rules = rules
        self._ties = ties
        self._reached = reached
        self._permitted: dict[tuple[str, str], Predicate] = {}
        self._existing: dict[str, Predicate] = {}
        self._told: dict[tuple[str, str], Decision | None] = {}

    @property
    def reader(self) -> Reader:
        """For whom it decides."""
        return self._reader

    @property
    def rules(self) -> Rules:
        """By what it decides."""
        return self._rules

    def decisions(self, letter: str, patients: Iterable[str]) -> Iterator[Decision]:
        """What the consents of these patients have to do with an answer about them."""
        known = self._told
        for patient in patients:
            key = letter, patient
            if key not in known:
                known[key] = self._taking_part(letter, patient)
            told = known[key]
            if told is not None:
                yield told

    def _taking_part(self, letter: str, patient: str) -> Decision | None:
        if self._reached and patient not in self._reached:
            return None
        return taking_part(patient, letter, self._reader, self._rules)

    @property
    def inner(self) -> Policy:
        """What scopes, role and relationship reach."""
        return self._inner

    @property
    def stamp(self) -> str:
        """What it decides by, for whatever purpose: who the reader is, whom it reaches, and their
        consents in force. It changes when what is permitted may have."""
        reader, consents = self._reader, self._rules.consents
        patients = sorted(self._reached or consents)
        held = [
            (one.id, one.version, sum(moment <= reader.now for moment in one.moments()))
            for patient in patients
            for one in consents.get(patient, ())
            if one.period.lo <= reader.now < one.period.hi
        ]
        who = [sorted(names) for names in (reader.names, reader.own, reader.acts_for)]
        return sha256(repr((who, self._reached, sorted(held))).encode()).hexdigest()

    def allows(self, letter: str, type_: str) -> bool:
        return self._inner.allows(letter, type_)

    def sees(self, letter: str, type_: str) -> Predicate:
        return self._narrowed(self._inner.sees(letter, type_), letter, type_)

    def exists(self, type_: str) -> Predicate:
        known = self._existing.get(type_)
        if known is None:
            found = self._narrowed(self._inner.exists(type_), "r", type_)
            known = self._existing[type_] = found
        return known

    def inside(self, type_: str) -> Predicate:
        return self._narrowed(TRUE, "r", type_)

    def maskable(self, type_: str) -> frozenset[str]:
        return self._ties.maskable(type_)

    def binary(self, letter: str) -> Predicate:
        return self._inner.binary(letter)

    @property
    def whole(self) -> bool:
        return False

    @property
    def erases(self) -> bool:
        return self._inner.erases

    @property
    def audits(self) -> bool:
        return self._inner.audits

    def _narrowed(self, reached: Predicate, letter: str, type_: str) -> Predicate:
        narrowed = self._both(reached, letter, type_)
        decisions = self._decisions(reached) if type_ == PROVENANCE and letter in "rs" else ()
        return either((narrowed, *decisions)) if decisions else narrowed

    def _decisions(self, reached: Predicate) -> tuple[Predicate, ...]:
        """What tells of the decisions of the patients who the reader is, or for whom it acts: R4
        has it in nobody's compartment. Only where no scope narrows what is reached."""
        if not isinstance(reached, InPatient):
            return ()
        own = sorted((self._reader.own | self._reader.acts_for) & {*reached.ids})
        ids = (id_ for patient in own for id_ in self._rules.recorded.get(patient, ()))
        return tuple(ReferenceIs("target", "Consent", id_) for id_ in ids)

    def _both(self, reached: Predicate, letter: str, type_: str) -> Predicate:
        if reached == FALSE:
            return FALSE
        known = self._permitted.get((letter, type_))
        if known is None:
            known = self._permitted[letter, type_] = self._compiled(letter, type_)
        return both(reached, known)

    def _compiled(self, letter: str, type_: str) -> Predicate:
        # To record something about a patient is a matter of role and relationship: a rule about
        # labels or codes cannot keep a fact from being written down.
        if letter == "c" or (type_ == AUDIT and self._inner.audits):
            return TRUE
        own = self._reader.own | self._reader.acts_for
        params = self._ties.params(type_)
        if type_ in HIDDEN and letter in "rs":
            return EachPatient(dict.fromkeys(own, TRUE), FALSE, params or ())
        compiler = Compiler(type_, letter, self._reader, self._rules)
        if params is not None:
            named = own | self._rules.consents.keys()
            rules = Permitted(compiler, named)
            return EachPatient(rules, compiler.unrecorded(), params, TokenIs(*SHARED))
        if type_ in ABOUT:
            return every(self._beside(compiler, type_))
        # Whose data the others hold (a Bundle, say) is not known: so nobody has permitted it.
        return TRUE if type_ in SHARED_TYPES else FALSE

    def _beside(self, compiler: Compiler, type_: str) -> Iterator[Predicate]:
        """Of a type outside of the compartment: for each patient whom a resource may name. A
        system, which reaches nobody in particular, has what names nobody."""
        if self._inner.whole:
            yield self._ties.unnamed(type_)
        by: dict[Predicate, list[Predicate]] = {}
        for patient in self._reached:
            names = self._ties.named(type_, patient)
            by.setdefault(compiler.of_patient(patient), []).append(names)
        for rule, any_of in by.items():
            yield either((negated(either(any_of)), rule))


class Permitted(Mapping[str, Predicate]):
    """By patient, what that patient permits; compiled when it is first asked for."""

    def __init__(self, compiler: Compiler, named: frozenset[str]) -> None:
        self._compiler = compiler
        self._named = named
        self._known: dict[str, Predicate] = {}
        self._same: dict[Predicate, Predicate] = {}

    def __getitem__(self, patient: str) -> Predicate:
        known = self._known.get(patient)
        if known is None:
            if patient not in self._named:
                raise KeyError(patient)
            fresh = self._compiler.of_patient(patient)
            known = self._known[patient] = self._same.setdefault(fresh, fresh)
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)
