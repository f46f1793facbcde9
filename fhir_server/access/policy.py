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
from fhir_server.access.scopes import ERASE, Scope
from fhir_server.search.plan import FALSE, TRUE, Any, InPatient, Predicate, both

BINARY: Final = "Binary"

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


@dataclass(frozen=True, slots=True)
class PermitAll:
    """``--open`` and the server's own work: everything."""

    def allows(self, letter: str, type_: str) -> bool:
        return True

    def sees(self, letter: str, type_: str) -> Predicate:
        return TRUE

    def exists(self, type_: str) -> Predicate:
        return TRUE

    def binary(self, letter: str) -> Predicate:
        return TRUE

    @property
    def whole(self) -> bool:
        return True

    @property
    def erases(self) -> bool:
        return True


class ScopePolicy:
    """SMART scopes compiled once per principal.

    A ``patient/`` scope reaches the compartment of the patient in context and, for types
    that no Patient compartment can hold (Practitioner, Organization, …), the type as a
    whole. ``Patient.link`` does not extend it. Without a patient it permits nothing.
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
        self._reads_all = principal.system and any(
            scope.context == "system" and scope.covers("*", "r") for scope in principal.scopes
        )

    @property
    def whole(self) -> bool:
        """Only a ``system/`` client knows the domain whole, within its types."""
        return self._principal.system

    @property
    def erases(self) -> bool:
        """A right of its own, which no resource scope includes, and of a client alone."""
        return self._principal.system and ERASE in self._principal.rights

    def allows(self, letter: str, type_: str) -> bool:
        return any(
            scope.covers(type_, letter) and self._usable(scope) for scope in self._principal.scopes
        )

    def sees(self, letter: str, type_: str) -> Predicate:
        known = self._sees.get((letter, type_))
        if known is None:
            plain = type_ != BINARY or self._reads_all
            known = self._compiled(letter, type_) if plain else FALSE
            self._sees[letter, type_] = known
        return known

    def binary(self, letter: str) -> Predicate:
        return self._compiled(letter, BINARY)

    def exists(self, type_: str) -> Predicate:
        if self._principal.system:
            return TRUE
        return FALSE if type_ == BINARY else self._reach(type_)

    def _compiled(self, letter: str, type_: str) -> Predicate:
        parts = tuple(
            self._scope(scope, type_)
            for scope in self._principal.scopes
            if scope.covers(type_, letter) and self._usable(scope)
        )
        if TRUE in parts:
            return TRUE
        return parts[0] if len(parts) == 1 else Any(parts)

    def _usable(self, scope: Scope) -> bool:
        match scope.context:
            case "system":
                return self._principal.system
            case "patient":
                return self._principal.patient is not None
            case "user":
                # Roles and relationships decide what a user reaches; until a role grants
                # something, a user scope grants nothing.
                return False

    def _scope(self, scope: Scope, type_: str) -> Predicate:
        reach = TRUE if scope.context == "system" else self._reach(type_)
        return both(reach, self._compile(type_, scope.filters)) if scope.filters else reach

    def _reach(self, type_: str) -> Predicate:
        if self._principal.patient is None:
            return FALSE
        if type_ in self._compartment:
            return InPatient((self._principal.patient,))
        return TRUE
