"""FHIR Consent as rules: what it says, read once.

https://hl7.org/fhir/R4/consent.html. What this server does not understand in a rule that
permits makes it permit nothing; in a rule that denies it is passed over, so that the rule
denies at least what it says (``strange``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any, Final

from fhir_server.access.consent.codes import (
    ACTIONS,
    CONFIDENTIALITY,
    LEVELS,
    PARTICIPATION,
    PROFILES,
    PURPOSES,
    REASONS,
    RECIPIENTS,
    SCOPES,
    SENSITIVITY,
    TYPES,
    Code,
)
from fhir_server.model.datatypes import FUTURE, PAST, Span, parse_period
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key
from fhir_server.search.parameters.reference import target

POLICIES: Final = "https://profiles.ihe.net/ITI/PCF/Policy-"
OPT_IN: Final = Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN")
OPT_OUT: Final = Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTOUT")
ALWAYS: Final = Span(PAST, FUTURE)


@dataclass(frozen=True, slots=True)
class Datum:
    """``provision.data``: ``meaning`` instance, related, dependents or authoredby."""

    meaning: str
    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Provision:
    """One rule; each populated element must match, of the values of one element any.

    ``permit`` None: only its nested rules say anything. Empty: the element is not there.
    ``actors``: references ``Type/id``. ``foreign``: an element has a value that this server does
    not know beside those it knows. ``strange``: there is an element that it cannot judge.
    """

    permit: bool | None
    period: Span = ALWAYS
    actors: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    labels: frozenset[Code] = frozenset()
    purposes: frozenset[Code] = frozenset()
    types: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()
    codes: frozenset[Code] = frozenset()
    timeframe: Span | None = None
    data: tuple[Datum, ...] = ()
    strange: frozenset[str] = frozenset()
    inner: tuple[Provision, ...] = ()


@dataclass(frozen=True, slots=True)
class Consent:
    """A recorded decision of a patient. ``policy``: one of IHE PCF's own (``basic-normal`` …),
    by which it goes where no rule says anything; empty if it names none of them.
    ``scope``: patient-privacy, research, treatment, adr. ``version``: of the resource.
    """

    id: str
    version: int
    patient: str
    root: Provision
    scope: str = "patient-privacy"
    policy: str = ""

    @property
    def period(self) -> Span:
        """When it holds at all."""
        return self.root.period

    def moments(self) -> frozenset[int]:
        """When something of it begins or ends to hold."""
        return frozenset(_moments(self.root))


def _moments(rule: Provision) -> Iterable[int]:
    yield from rule.period
    for inner in rule.inner:
        yield from _moments(inner)


def consent_of(resource: Json, version: int, zone: tzinfo, base: str = "") -> Consent | None:
    """A Consent resource as rules; None if it is not in force: not active, or not about whom it
    may be. ``zone``: of dates without one. ``base``: URL of this server's record.
    """
    if resource.get("status") != "active":
        return None
    patient = local(resource.get("patient"), base)
    if patient is None or patient.type != "Patient":
        return None
    body = resource.get("provision") or {}
    rule = _base(resource.get("policyRule"))
    root = _Reading(body, zone, base).provision(strange=_is_modified(resource))
    if root.permit is None and rule is not None:
        root = replace(root, permit=rule)
    return Consent(
        id=resource["id"],
        version=version,
        patient=patient.id,
        root=root,
        scope=_scope(resource.get("scope")),
        policy=_policy(resource.get("policy") or ()),
    )


def _base(rule: Any) -> bool | None:
    """``policyRule``: OPTIN permits, OPTOUT denies."""
    codes = set(_codings(rule))
    if OPT_OUT in codes:
        return False
    return True if OPT_IN in codes else None


def _scope(concept: Any) -> str:
    found = [code.code for code in _codings(concept) if code.system == SCOPES]
    return found[0] if found else "patient-privacy"


def _policy(policies: Iterable[Json]) -> str:
    for policy in policies:
        uri = policy.get("uri")
        if isinstance(uri, str) and uri.startswith(POLICIES):
            return uri.removeprefix(POLICIES)
    return ""


_KNOWN: Final = frozenset(
    {"type", "period", "actor", "action", "securityLabel", "purpose", "class", "code"}
    | {"dataPeriod", "data", "provision", "id", "extension"}
)


class _Reading:
    """Of one provision. ``strange`` gathers the names of what cannot be judged."""

    def __init__(self, body: Json, zone: tzinfo, base: str) -> None:
        self._body = body
        self._zone = zone
        self._base = base
        self._strange: set[str] = set()

    def provision(self, *, strange: bool = False) -> Provision:
        body = self._body
        if strange or _is_modified(body) or not _names(body) <= _KNOWN:
            self._strange.add("?")
        said = body.get("type")
        types, profiles = self._classes()
        return Provision(
            permit={"permit": True, "deny": False}.get(said) if isinstance(said, str) else None,
            period=self._span("period") or ALWAYS,
            actors=self._actors(),
            actions=self._actions(),
            labels=self._labels(),
            purposes=self._purposes(),
            types=types,
            profiles=profiles,
            codes=self._codes(),
            timeframe=self._span("dataPeriod"),
            data=self._data(),
            inner=tuple(
                _Reading(inner, self._zone, self._base).provision()
                for inner in body.get("provision") or ()
            ),
            strange=frozenset(self._strange),
        )

    def _span(self, name: str) -> Span | None:
        period = self._body.get(name)
        if not isinstance(period, dict):
            return None
        return parse_period(period.get("start"), period.get("end"), self._zone)

    def _actors(self) -> frozenset[str]:
        found = set()
        for actor in self._body.get("actor") or ():
            roles = _codings(actor.get("role"))
            gets = not roles or any(
                role.system == PARTICIPATION and role.code in RECIPIENTS for role in roles
            )
            who = local(actor.get("reference"), self._base)
            if who is None or not gets or _is_modified(actor):
                self._strange.add("actor")
            else:
                found.add(str(who))
        return frozenset(found)

    def _actions(self) -> frozenset[str]:
        codes = {c for concept in self._body.get("action") or () for c in _codings(concept)}
        known = {code.code for code in codes if code.system == ACTIONS}
        self._note("action", len(known) < len(codes))
        return frozenset(known)

    def _purposes(self) -> frozenset[Code]:
        codes = frozenset(_code(coding) for coding in self._body.get("purpose") or ())
        self._note("purpose", not all(c.system == REASONS and c.code in PURPOSES for c in codes))
        return codes

    def _labels(self) -> frozenset[Code]:
        codes = frozenset(_code(coding) for coding in self._body.get("securityLabel") or ())
        self._note("securityLabel", not all(_is_label(code) for code in codes))
        return codes

    def _classes(self) -> tuple[frozenset[str], frozenset[str]]:
        codes = {_code(coding) for coding in self._body.get("class") or ()}
        types = frozenset(code.code for code in codes if code.system == TYPES)
        profiles = frozenset(code.code for code in codes if code.system == PROFILES)
        self._note("class", len(types) + len(profiles) < len(codes))
        return types, profiles

    def _codes(self) -> frozenset[Code]:
        concepts = [_codings(concept) for concept in self._body.get("code") or ()]
        self._note("code", not all(concepts))
        return frozenset(code for codes in concepts for code in codes)

    def _data(self) -> tuple[Datum, ...]:
        found = []
        for datum in self._body.get("data") or ():
            key, meaning = local(datum.get("reference"), self._base), datum.get("meaning")
            if key is None or meaning not in MEANINGS or _is_modified(datum):
                self._strange.add("data")
            else:
                found.append(Datum(meaning, key.type, key.id))
        return tuple(found)

    def _note(self, name: str, strange: bool) -> None:
        if strange:
            self._strange.add(name)


MEANINGS: Final = frozenset({"instance", "related", "dependents", "authoredby"})


def _is_label(code: Code) -> bool:
    if code.system == CONFIDENTIALITY:
        return code.code in LEVELS
    return code.system == SENSITIVITY


def _names(body: Json) -> frozenset[str]:
    """Elements, those of primitives by their own name."""
    return frozenset(name.removeprefix("_") for name in body)


def _is_modified(body: Json) -> bool:
    return "modifierExtension" in body


def _code(coding: Json) -> Code:
    return Code(coding.get("system") or "", coding.get("code") or "")


def _codings(concept: Any) -> list[Code]:
    codings = concept.get("coding") or () if isinstance(concept, dict) else ()
    return [_code(coding) for coding in codings if coding.get("code")]


def local(reference: Any, base: str) -> Key | None:
    """What a Reference leads to on this server, of any version; None: somewhere else."""
    literal = reference.get("reference") if isinstance(reference, dict) else None
    found = target(literal, base) if isinstance(literal, str) else None
    return Key(found.type, found.id) if found is not None and found.type else None
