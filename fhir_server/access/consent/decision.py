"""decide: may this reader have this resource? A pure function, with its reasons.

The order of ARCHITECTURE.md, from the patient on: who asks has passed token, scope, role and
relationship. ``compiled.py`` says the same as a predicate of the plan; a property test holds
the two equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.codes import (
    BREAK_GLASS,
    CONFIDENTIALITY,
    HELD,
    LEVELS,
    NORMAL,
    OF_MINORS,
    REASONS,
    SENSITIVITY,
    Code,
    level,
    sensitivities,
)
from fhir_server.access.consent.domain import Implicit, fits, implicit_purposes
from fhir_server.access.consent.provisions import Consent, Datum, Provision
from fhir_server.access.consent.relating import Relating
from fhir_server.access.ties import TIED


@dataclass(frozen=True, slots=True)
class Decision:
    """``why``: the rule path that decided. ``consents``: ``id/version`` of those looked at."""

    permitted: bool
    why: str
    consents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the patients of one domain. ``consents``: by patient. ``recorded``: the ids of
    all that patients have recorded, what is in force or not."""

    consents: Mapping[str, tuple[Consent, ...]]
    relating: Relating
    implicit: Implicit = "basic-normal"
    recorded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def decide(facts: Facts, letter: str, reader: Reader, rules: Rules) -> Decision:
    """Denied if any of the patients that the resource is about denies it."""
    decided = [_of_patient(p, facts, letter, reader, rules) for p in facts.patients]
    used = tuple(name for one in decided for name in one.consents)
    denied = next((one for one in decided if not one.permitted), None)
    if denied is not None:
        return Decision(False, denied.why, used)
    return Decision(True, decided[0].why if decided else "about nobody", used)


def _of_patient(patient: str, facts: Facts, letter: str, reader: Reader, rules: Rules) -> Decision:
    if patient in reader.own or patient in reader.acts_for:
        held = HELD if patient in reader.own else HELD | OF_MINORS
        codes = {label.code for label in facts.labels if label.system == SENSITIVITY}
        return Decision(codes.isdisjoint(held), "own data")
    active = [c for c in rules.consents.get(patient, ()) if in_force(c, reader)]
    if active and any(one.param == TIED for one in facts.references):
        # It bears the labels of what it is about, but not its codes and dates.
        used = tuple(f"{consent.id}/{consent.version}" for consent in active)
        return Decision(False, "a consent may keep what it is about", used)
    if patient in reader.broken:
        return _of_broken(active, facts, letter, reader, rules)
    if not active:
        return Decision(_implicit(rules.implicit, facts, reader), f"implicit:{rules.implicit}")
    used = tuple(f"{consent.id}/{consent.version}" for consent in active)
    said = [(consent, says(consent, facts, letter, reader, rules)) for consent in active]
    for consent, verdict in said:
        if verdict is False:
            return Decision(False, f"Consent/{consent.id}: deny", used)
    for consent, verdict in said:
        if verdict:
            return Decision(True, f"Consent/{consent.id}: permit", used)
    return Decision(False, "no consent permits it", used)


def _of_broken(
    active: list[Consent], facts: Facts, letter: str, reader: Reader, rules: Rules
) -> Decision:
    """For who breaks the glass: permitted, unless the patient has said "not even then"."""
    if not active:
        permitted = rules.implicit != NOT_EVEN_THEN
        return Decision(permitted, f"break-glass, implicit:{rules.implicit}")
    used = tuple(f"{consent.id}/{consent.version}" for consent in active)
    for consent in active:
        verdict = _verdict(at_last(consent.root), facts, letter, reader, rules)
        if verdict is False or (verdict is None and consent.policy == NOT_EVEN_THEN):
            return Decision(False, f"Consent/{consent.id}: deny, not even to break the glass", used)
    return Decision(True, "break-glass", used)


def at_last(rule: Provision) -> Provision:
    """What of a rule holds for who breaks the glass: what it permits, and the denials that name
    this very purpose (BTG, none above it)."""
    passed_over = rule.permit is False and _BREAKING not in rule.purposes
    inner = tuple(at_last(one) for one in rule.inner)
    return replace(rule, permit=None if passed_over else rule.permit, inner=inner)


_BREAKING: Final = Code(REASONS, BREAK_GLASS)
NOT_EVEN_THEN: Final = "deny"
"""The policy of IHE PCF over which nobody breaks the glass: what no rule permits is denied."""


def in_force(consent: Consent, reader: Reader) -> bool:
    """Is it about this purpose, and now?"""
    lo, hi = consent.period
    return lo <= reader.now < hi and fits(consent.scope, reader.purpose)


def says(consent: Consent, facts: Facts, letter: str, reader: Reader, rules: Rules) -> bool | None:
    """What one consent says: permit, deny, or nothing."""
    verdict = _verdict(consent.root, facts, letter, reader, rules)
    if verdict is None and consent.policy in POLICIES:
        return _implicit(POLICIES[consent.policy], facts, reader) or None
    return verdict


POLICIES: Final[Mapping[str, Implicit]] = {
    "basic-normal": "basic-normal",
    "all-normal": "all-normal",
    "break-glass-only": "deny",
    "deny": "deny",
}
"""What a consent that names one of IHE PCF's policies permits beside its own rules."""


def _implicit(policy: Implicit, facts: Facts, reader: Reader) -> bool:
    """What holds without a recorded consent: normal confidentiality, for some purposes."""
    usual = LEVELS.index(level(facts.labels)) <= LEVELS.index(NORMAL)
    return usual and implicit_purposes(policy, reader.purpose)


def _verdict(
    rule: Provision, facts: Facts, letter: str, reader: Reader, rules: Rules
) -> bool | None:
    """Nested rules first, independent of the outer rule's purpose and label; deny wins."""
    inner = [_verdict(one, facts, letter, reader, rules) for one in rule.inner]
    if False in inner:
        return False
    if True in inner:
        return True
    if rule.permit is None or not matches(rule, facts, letter, reader, rules):
        return None
    return rule.permit


def matches(rule: Provision, facts: Facts, letter: str, reader: Reader, rules: Rules) -> bool:
    """Does every populated element match? A denial passes over what cannot be judged."""
    if rule.strange and rule.permit:
        return False
    tests: list[tuple[str, object, bool]] = [
        ("period", True, rule.period.lo <= reader.now < rule.period.hi),
        ("actor", rule.actors, not rule.actors.isdisjoint(reader.names)),
        ("action", rule.actions, reader.does(letter, rule.actions)),
        ("purpose", rule.purposes, reader.states(rule.purposes)),
        ("securityLabel", rule.labels, _labelled(rule, facts.labels)),
        ("class", rule.types or rule.profiles, _of_class(rule, facts)),
        ("code", rule.codes, _coded(rule.codes, facts.codings)),
        ("dataPeriod", rule.timeframe is not None, _within(rule, facts)),
        ("data", rule.data, any(_is_about(d, facts, rules) for d in rule.data)),
    ]
    return all(holds or name in rule.strange or not populated for name, populated, holds in tests)


def _labelled(rule: Provision, labels: Iterable[Code]) -> bool:
    found = level(labels)
    mine = {label.code for label in labels if label.system == SENSITIVITY}
    for label in rule.labels:
        if label.system == CONFIDENTIALITY and label.code in LEVELS:
            above = LEVELS.index(found) - LEVELS.index(label.code)
            if above <= 0 if rule.permit else above >= 0:
                return True
        elif label.system == SENSITIVITY and not mine.isdisjoint(sensitivities(label.code)):
            return True
    return False


def _of_class(rule: Provision, facts: Facts) -> bool:
    return facts.key.type in rule.types or not rule.profiles.isdisjoint(facts.profiles)


def _coded(wanted: frozenset[Code], codings: frozenset[Code]) -> bool:
    """A code without a system means that code of any system."""
    codes = {coding.code for coding in codings}
    return any(w in codings if w.system else w.code in codes for w in wanted)


def _within(rule: Provision, facts: Facts) -> bool:
    return rule.timeframe is not None and rule.timeframe.lo <= facts.date < rule.timeframe.hi


def _is_about(datum: Datum, facts: Facts, rules: Rules) -> bool:
    key, relating = facts.key, rules.relating
    named = {(r.param, r.type, r.id) for r in facts.references}
    if datum.meaning == "authoredby":
        params = relating.authors(key.type, datum.type)
        return any((param, datum.type, datum.id) in named for param in params)
    if (key.type, key.id) == (datum.type, datum.id):
        return True
    if datum.meaning == "instance":
        return False
    if any((r.type, r.id) == (datum.type, datum.id) for r in facts.references):
        return True
    return datum.meaning == "related" and key in relating.named_by(datum.type, datum.id)
