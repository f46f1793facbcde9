"""A patient records a decision: the one way by which users write Consents.

No user scope writes a Consent by itself (``roles.GUARDED``). Here the patients, and who acts for
them, may, through an app that was given ``Consent`` to create and to update.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.policy import Policy
from fhir_server.access.principal import Principal
from fhir_server.access.scopes import Scope
from fhir_server.access.ties import PROVENANCE
from fhir_server.model.problem import Forbidden, NotFound
from fhir_server.search.plan import TRUE, InPatient, Predicate

CONSENT: Final = "Consent"


class Ceremony:
    """What its principal may do; beside it to write Consents of one patient, and to say whence
    they are."""

    whole = False

    def __init__(self, inner: Policy, patient: str) -> None:
        self._inner = inner
        self._patient = InPatient((patient,))
        self.exists, self.inside, self.maskable = inner.exists, inner.inside, inner.maskable
        self.binary, self.erases, self.audits = inner.binary, inner.erases, inner.audits

    def allows(self, letter: str, type_: str) -> bool:
        return _recorded(letter, type_) or self._inner.allows(letter, type_)

    def sees(self, letter: str, type_: str) -> Predicate:
        if not _recorded(letter, type_):
            return self._inner.sees(letter, type_)
        return self._patient if type_ == CONSENT else TRUE


class Attesting:
    """What its principal may do; beside it to say whence is what it writes. R4 has the Provenance
    of a result in no patient's compartment, so that no user scope reaches it."""

    whole = False

    def __init__(self, inner: Policy) -> None:
        self._inner = inner
        self.exists, self.inside, self.maskable = inner.exists, inner.inside, inner.maskable
        self.binary, self.erases, self.audits = inner.binary, inner.erases, inner.audits

    def allows(self, letter: str, type_: str) -> bool:
        return (letter, type_) == ("c", PROVENANCE) or self._inner.allows(letter, type_)

    def sees(self, letter: str, type_: str) -> Predicate:
        return TRUE if (letter, type_) == ("c", PROVENANCE) else self._inner.sees(letter, type_)


def attesting(policy: Policy) -> Policy:
    """The policy by which the server writes a Provenance beside what its principal writes."""
    return policy if policy.whole else Attesting(policy)


def _recorded(letter: str, type_: str) -> bool:
    return (letter in "cu" and type_ == CONSENT) or (letter == "c" and type_ == PROVENANCE)


def ceremony(principal: Principal, policy: Policy, patient: str) -> Policy:
    """The policy by which decisions of this patient are recorded. Forbidden for who records none,
    NotFound for another patient than their own.
    """
    if policy.whole:
        if not (policy.allows("c", CONSENT) and policy.allows("u", CONSENT)):
            raise Forbidden(f"not permitted: write {CONSENT}")
        return policy
    require_own(principal, patient)
    if not (_granted(principal, "c", patient) and _granted(principal, "u", patient)):
        raise Forbidden(f"not permitted: the app may not write {CONSENT}")
    return Ceremony(policy, patient)


def require_own(principal: Principal, patient: str) -> None:
    """Forbidden for who is no patient, and acts for none; NotFound for somebody else."""
    own, acts_for = principal.is_for()
    if not (own or acts_for):
        raise Forbidden("not permitted: only the patients themselves")
    if patient not in own | acts_for:
        raise NotFound(f"Patient/{patient} is not known")


def _granted(principal: Principal, letter: str, patient: str) -> bool:
    """Does a scope say so, without a filter? What a filter leaves is not judged here."""
    return any(
        scope.covers(CONSENT, letter) and not scope.filters and _reaches(principal, scope, patient)
        for scope in principal.scopes
    )


def _reaches(principal: Principal, scope: Scope, patient: str) -> bool:
    if scope.context == "user":
        return principal.standing is not None and principal.standing.fhir_user != ""
    return scope.context == "patient" and principal.patient == patient
