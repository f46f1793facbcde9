"""What a principal may do, compiled to predicates over the plan.

``sees`` is the ceiling for what may come back, ``exists`` what may be known to be there at
all: a reference counts only if its target exists for this principal. The default of every
question is no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from fhir_server.access.principal import Principal
from fhir_server.access.roles import ABOUT, AUDIT, REVIEWED, SHARED, UNTOLD
from fhir_server.access.scopes import ERASE, Context, Scope
from fhir_server.access.ties import PROVENANCE, UNTIED
from fhir_server.model.problem import BadRequest
from fhir_server.search.plan import (
    FALSE,
    TRUE,
    All,
    Any,
    Chain,
    Has,
    IdIn,
    InPatient,
    Not,
    Predicate,
    both,
)

BINARY: Final = "Binary"
TOGETHER: Final = 500
"""Patients that one criterion names."""

CompileFilter = Callable[[str, tuple[tuple[str, str], ...]], Predicate]
"""(resource type, search parameters of a scope) -> predicate; raises Problem if unknown."""


class Policy(Protocol):
    """Questions of metadata alone are answered with bool, questions of data with a Predicate."""

    def allows(self, letter: str, type_: str) -> bool:
        """May this principal try the interaction (c, r, u, d, s) on the type at all?"""
        ...

    def sees(self, letter: str, type_: str) -> Predicate:
        """The resources of the type on which the interaction is permitted."""
        ...

    def exists(self, type_: str) -> Predicate:
        """The resources of the type that this principal may know to exist."""
        ...

    def inside(self, type_: str) -> Predicate:
        """What may be seen of the type where it is contained in something visible."""
        ...

    def maskable(self, type_: str) -> frozenset[str]:
        """The indexes of the type of whose values a mask may take some (``access/shown``)."""
        ...

    def binary(self, letter: str) -> Predicate:
        """The Binaries on which the interaction is permitted apart from securityContext.

        ``sees`` holds of a Binary only for who reads every type; ``access/contents`` lets
        others have the one that they name, if they may read what its securityContext names.
        """
        ...

    @property
    def whole(self) -> bool:
        """True if nothing of the domain is hidden from this principal."""
        ...

    @property
    def erases(self) -> bool:
        """May this principal erase for good what it may delete?"""
        ...

    @property
    def audits(self) -> bool:
        """Is the audit trail shown to this principal as it is, with addresses and reasons?"""
        ...


@dataclass(frozen=True, slots=True)
class PermitAll:
    """``--open`` and the server's own work: everything."""

    def allows(self, letter: str, type_: str) -> bool:
        return True

    def sees(self, letter: str, type_: str) -> Predicate:
        return TRUE

    def exists(self, type_: str) -> Predicate:
        return TRUE

    def inside(self, type_: str) -> Predicate:
        return TRUE

    def maskable(self, type_: str) -> frozenset[str]:
        return frozenset()

    def binary(self, letter: str) -> Predicate:
        return TRUE

    @property
    def whole(self) -> bool:
        return True

    @property
    def erases(self) -> bool:
        return True

    @property
    def audits(self) -> bool:
        return True


class ScopePolicy:
    """SMART scopes compiled once per principal.

    A ``patient/`` scope reaches the compartment of the patient in context, a ``user/`` scope
    those of all patients that the user reaches; both also what belongs to nobody
    (``roles.SHARED``). A user has no scope beyond role and relationship. ``Patient.link``
    does not extend it. Without a patient a ``patient/`` scope permits nothing.
    A Binary is in no compartment but may hold anything: see ``Policy.binary``.
    """

    def __init__(
        self,
        principal: Principal,
        compartment: Mapping[str, tuple[str, ...]],
        compile_filter: CompileFilter,
    ) -> None:
        self._principal = principal
        self._compartment = compartment
        self._compile = compile_filter
        self._sees: dict[tuple[str, str], Predicate] = {}
        self._allows: dict[tuple[str, str], bool] = {}
        self._reads_all = principal.system and any(
            scope.context == "system" and scope.covers("*", "r") for scope in principal.scopes
        )
        self._own, _, self._own_id = principal.fhir_user.partition("/")

    @property
    def whole(self) -> bool:
        """Only a ``system/`` client knows the domain whole, within its types."""
        return self._principal.system

    @property
    def erases(self) -> bool:
        """A right of its own, which no resource scope includes, and of a client alone."""
        return self._principal.system and ERASE in self._principal.rights

    @property
    def audits(self) -> bool:
        """Administrators, and clients of the hospital; patients see it in their own words."""
        standing = self._principal.standing
        return self._principal.system or (standing is not None and standing.rights.audits)

    def allows(self, letter: str, type_: str) -> bool:
        known = self._allows.get((letter, type_))
        if known is None:
            known = self._allows[letter, type_] = self._opens(letter, type_) or any(
                scope.covers(type_, letter) and self._usable(scope, letter, type_)
                for scope in self._principal.scopes
            )
        return known

    def sees(self, letter: str, type_: str) -> Predicate:
        known = self._sees.get((letter, type_))
        if known is None:
            plain = type_ != BINARY or self._reads_all
            known = self._compiled(letter, type_) if plain else FALSE
            self._sees[letter, type_] = known
        return known

    def inside(self, type_: str) -> Predicate:
        """Who sees a resource sees what it contains."""
        return TRUE

    def maskable(self, type_: str) -> frozenset[str]:
        """Scopes alone hide no words."""
        return frozenset()

    def binary(self, letter: str) -> Predicate:
        return self._compiled(letter, BINARY)

    def exists(self, type_: str) -> Predicate:
        """What any of the scopes could reach, apart from their types and letters."""
        principal = self._principal
        if principal.system:
            return TRUE
        if type_ == BINARY:
            return FALSE
        contexts = sorted({scope.context for scope in principal.scopes})
        parts = [self._reach(self._patients(context), type_) for context in contexts]
        if type_ == self._own and self._own_id:
            parts.append(IdIn((self._own_id,)))
        return _either(parts)

    def _compiled(self, letter: str, type_: str) -> Predicate:
        parts = [
            self._scope(scope, type_)
            for scope in self._principal.scopes
            if scope.covers(type_, letter) and self._usable(scope, letter, type_)
        ]
        if self._opens(letter, type_):
            parts.append(IdIn((self._own_id,)))
        found = _either(parts)
        # To be read only: what tells whence another's entry came is not for users to write.
        bound = type_ == PROVENANCE and letter not in "rs" and not self._principal.system
        return both(found, UNTIED) if bound else found

    def _opens(self, letter: str, type_: str) -> bool:
        """The scope ``fhirUser`` opens the user's own resource, to read."""
        return letter == "r" and type_ == self._own and self._own_id != ""

    def _usable(self, scope: Scope, letter: str, type_: str) -> bool:
        principal = self._principal
        if type_ == AUDIT and not _auditable(principal, scope, letter):
            return False
        if scope.context == "system":
            return principal.system
        if scope.context == "patient" and principal.patient is None:
            return False
        if principal.standing is None:
            return scope.context == "patient"
        standing = principal.standing
        if type_ == AUDIT and standing.rights.audits:
            return scope.context == "user"
        if type_ == "Task" and standing.rights.reviews:
            return scope.context == "user" and letter in standing.rights.more.get(type_, "")
        if scope.context == "user" and (standing.rights.launched or not standing.fhir_user):
            return False
        return standing.rights.permits(letter, type_, shared=self._is_shared(type_))

    def _audited(self) -> bool:
        standing = self._principal.standing
        return standing is not None and standing.rights.audits

    def _reviews(self) -> bool:
        standing = self._principal.standing
        return standing is not None and standing.rights.reviews

    def _own_trail(self) -> bool:
        """Patients see who saw their data; who cares for them does not."""
        standing = self._principal.standing
        return standing is None or standing.rights.own

    def _is_shared(self, type_: str) -> bool:
        return type_ in SHARED and type_ not in self._compartment

    def _scope(self, scope: Scope, type_: str) -> Predicate:
        reach: Predicate = TRUE
        if scope.context != "system":
            reach = self._reach(self._patients(scope.context), type_)
        return both(reach, self._compile(type_, scope.filters)) if scope.filters else reach

    def _patients(self, context: Context) -> tuple[str, ...] | None:
        """Whose compartments a context reaches; None if it is not there at all."""
        principal = self._principal
        if context == "user":
            standing = principal.standing
            return standing.patients if standing is not None and standing.fhir_user else None
        if context == "system" or principal.patient is None:
            return None
        if principal.standing is not None and principal.patient not in principal.standing.patients:
            return None
        return (principal.patient,)

    def _reach(self, patients: tuple[str, ...] | None, type_: str) -> Predicate:
        reach = self._near(patients, type_)
        reviewed = type_ == "Task" and self._reviews()
        if type_ not in UNTOLD or reviewed or self._own_trail():
            return reach
        return both(reach, Not(self._compile(type_, (UNTOLD[type_],))))

    def _near(self, patients: tuple[str, ...] | None, type_: str) -> Predicate:
        if type_ == AUDIT and self._audited():
            return TRUE
        if type_ == "Task" and self._reviews():
            return self._compile(type_, (("code", ",".join(map("|".join, REVIEWED))),))
        if patients is None:
            return FALSE
        if type_ == AUDIT and not self._own_trail():
            return FALSE
        if type_ in self._compartment:
            return InPatient(patients) if patients else FALSE
        if type_ in SHARED or type_ == BINARY:
            return TRUE
        if type_ not in ABOUT:
            return FALSE
        param, unworn = ABOUT[type_]
        parts = []
        for start in range(0, len(patients), TOGETHER):
            named = ",".join(f"Patient/{p}" for p in patients[start : start + TOGETHER])
            parts.append(self._compile(type_, ((param, named),)))
        if unworn:
            parts.append(self._compile(type_, ((f"{param}:missing", "true"),)))
        return _either(parts)


class _Knowing:
    """Of who audits, for AuditEvents: they name what there is, so a reference in them counts even
    if what it leads to may not be seen. What is seen stays as it is.
    """

    whole = audits = True
    erases = False

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.allows, self.sees, self.binary = policy.allows, policy.sees, policy.binary

    def exists(self, type_: str) -> Predicate:
        return TRUE

    def inside(self, type_: str) -> Predicate:
        return TRUE

    def maskable(self, type_: str) -> frozenset[str]:
        return frozenset()


def knowing(policy: Policy) -> Policy:
    """The policy by which AuditEvents are searched."""
    return _Knowing(policy) if policy.audits and not policy.whole else policy


def unknowing(policy: Policy) -> Policy:
    """The policy itself."""
    return policy.policy if isinstance(policy, _Knowing) else policy


def knows_all(policy: Policy, letter: str, type_: str) -> bool:
    """May it be known of everything of the type that it is there, also by the search parameters of
    scopes?"""
    if not policy.whole or type_ == BINARY:
        return policy.whole
    return TRUE in (policy.sees("r", type_), policy.sees(letter, type_))


def _auditable(principal: Principal, scope: Scope, letter: str) -> bool:
    """AuditEvents are created by other systems, and never changed by anybody."""
    return letter in "rs" or (letter == "c" and scope.context == "system" and principal.system)


def _either(parts: list[Predicate]) -> Predicate:
    if TRUE in parts:
        return TRUE
    kept = tuple(dict.fromkeys(part for part in parts if part != FALSE))
    return kept[0] if len(kept) == 1 else Any(kept)


def joinless(compile_filter: CompileFilter) -> CompileFilter:
    """Refuses what cannot be judged on the resource alone."""

    def compile_(type_: str, filters: tuple[tuple[str, str], ...]) -> Predicate:
        predicate = compile_filter(type_, filters)
        if not is_plain(predicate):
            raise BadRequest("a scope is narrowed by parameters of the resource alone")
        return predicate

    return compile_


def is_plain(predicate: Predicate) -> bool:
    """Without joins: it can be judged on the resource alone, as a scope has to be."""
    match predicate:
        case All(parts) | Any(parts):
            return all(is_plain(part) for part in parts)
        case Not(part):
            return is_plain(part)
        case Chain() | Has():
            return False
        case _:
            return True
