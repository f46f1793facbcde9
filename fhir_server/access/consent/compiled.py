"""compile: what ``decision.py`` decides, as a predicate over the plan.

A rule comes to two predicates, of what it permits and of what it denies; rules that cannot
match this reader at this moment vanish.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fhir_server.access.consent.asking import Reader
from fhir_server.access.consent.codes import (
    CONFIDENTIALITY,
    HELD,
    LEVELS,
    NORMAL,
    OF_MINORS,
    SENSITIVITY,
    Code,
    sensitivities,
)
from fhir_server.access.consent.decision import (
    NOT_EVEN_THEN,
    POLICIES,
    Rules,
    at_last,
    in_force,
)
from fhir_server.access.consent.domain import Implicit, implicit_purposes
from fhir_server.access.consent.paths import concerns
from fhir_server.access.consent.provisions import Consent, Datum, Provision
from fhir_server.access.labels import LABEL
from fhir_server.access.ties import PROVENANCE, UNTIED
from fhir_server.search.plan import (
    FALSE,
    TRUE,
    All,
    Any,
    Coded,
    Dated,
    IdIn,
    Not,
    Predicate,
    ReferenceIs,
    TokenIs,
    UriIs,
)


class _Said(NamedTuple):
    """What is permitted, and what is denied."""

    permitted: Predicate
    denied: Predicate


class Compiler:
    """Of one reader, type and letter."""

    def __init__(self, type_: str, letter: str, reader: Reader, rules: Rules) -> None:
        self._type = type_
        self._letter = letter
        self._reader = reader
        self._rules = rules

    def of_patient(self, patient: str) -> Predicate:
        """The resources of the type that this patient permits, as far as they are about them."""
        reader, rules = self._reader, self._rules
        if patient in reader.own:
            return _without(HELD)
        if patient in reader.acts_for:
            return _without(HELD | OF_MINORS)
        active = [c for c in rules.consents.get(patient, ()) if in_force(c, reader)]
        broken = patient in reader.broken
        if not active:
            return self._of_broken(active) if broken else self.unrecorded()
        said = self._of_broken(active) if broken else self._of_consents(active)
        return every((said, UNTIED)) if self._type == PROVENANCE else said

    def unrecorded(self) -> Predicate:
        """What is permitted of those who have recorded nothing."""
        return self._implicit(self._rules.implicit)

    def _of_broken(self, consents: list[Consent]) -> Predicate:
        """For who breaks the glass."""
        if not consents:
            return FALSE if self._rules.implicit == NOT_EVEN_THEN else TRUE
        said = [(consent, self._rule(at_last(consent.root))) for consent in consents]
        needed = (one.permitted for consent, one in said if consent.policy == NOT_EVEN_THEN)
        return every((negated(either(one.denied for _, one in said)), *needed))

    def _of_consents(self, consents: Iterable[Consent]) -> Predicate:
        said = [self._consent(consent) for consent in consents]
        permitted = either(one.permitted for one in said)
        return every((permitted, negated(either(one.denied for one in said))))

    def _consent(self, consent: Consent) -> _Said:
        said = self._rule(consent.root)
        if consent.policy not in POLICIES:
            return said
        beside = every((self._implicit(POLICIES[consent.policy]), negated(said.denied)))
        return _Said(either((said.permitted, beside)), said.denied)

    def _implicit(self, policy: Implicit) -> Predicate:
        if not implicit_purposes(policy, self._reader.purpose):
            return FALSE
        return negated(_at_least(_next(NORMAL)))

    def _rule(self, rule: Provision) -> _Said:
        inner = [self._rule(one) for one in rule.inner]
        denied = either(one.denied for one in inner)
        permitted = either(one.permitted for one in inner)
        mine = FALSE if rule.permit is None else self._matching(rule)
        if rule.permit:
            permitted = either((permitted, mine))
        elif mine != FALSE:
            denied = either((denied, every((mine, negated(permitted)))))
        return _Said(every((permitted, negated(denied))), denied)

    def _matching(self, rule: Provision) -> Predicate:
        """The resources for which every populated element matches."""
        strange = rule.strange
        if not concerns(rule, self._letter, self._reader):
            return FALSE
        return every(
            test
            for name, there, test in (
                ("securityLabel", rule.labels, self._labelled(rule)),
                ("class", rule.types or rule.profiles, self._of_class(rule)),
                ("code", rule.codes, either(Coded(c.system or None, c.code) for c in rule.codes)),
                ("dataPeriod", rule.timeframe, _within(rule)),
                ("data", rule.data, either(self._about(datum) for datum in rule.data)),
            )
            if there and name not in strange
        )

    def _labelled(self, rule: Provision) -> Predicate:
        return either(_label(label, permit=bool(rule.permit)) for label in sorted(rule.labels))

    def _of_class(self, rule: Provision) -> Predicate:
        if self._type in rule.types:
            return TRUE
        return either(UriIs("_profile", profile) for profile in sorted(rule.profiles))

    def _about(self, datum: Datum) -> Predicate:
        relating = self._rules.relating
        if datum.meaning == "authoredby":
            params = relating.authors(self._type, datum.type)
            return either(ReferenceIs(p, datum.type, datum.id) for p in params)
        own: Predicate = IdIn((datum.id,)) if self._type == datum.type else FALSE
        if datum.meaning == "instance":
            return own
        params = relating.referring(self._type, datum.type)
        parts = [own, *(ReferenceIs(p, datum.type, datum.id) for p in params)]
        if datum.meaning == "related":
            named = relating.named_by(datum.type, datum.id)
            ids = tuple(sorted(key.id for key in named if key.type == self._type))
            parts.append(IdIn(ids) if ids else FALSE)
        return either(parts)


def _within(rule: Provision) -> Predicate:
    return FALSE if rule.timeframe is None else Dated(*rule.timeframe)


def _label(label: Code, *, permit: bool) -> Predicate:
    """A permit of a confidentiality covers what is lower, a denial what is higher."""
    if label.system == CONFIDENTIALITY and label.code in LEVELS:
        return negated(_at_least(_next(label.code))) if permit else _at_least(label.code)
    if label.system != SENSITIVITY:
        return FALSE
    codes = sorted(sensitivities(label.code))
    return either(TokenIs(LABEL, SENSITIVITY, code) for code in codes)


def _next(code: str) -> str:
    """The level above; empty above the highest."""
    return LEVELS[LEVELS.index(code) + 1 :][:1]


def _at_least(code: str) -> Predicate:
    """What is of this confidentiality or a higher one. The index bears every level but N."""
    if not code:
        return FALSE
    place = LEVELS.index(code)
    if place > LEVELS.index(NORMAL):
        return either(TokenIs(LABEL, CONFIDENTIALITY, higher) for higher in LEVELS[place:])
    return negated(either(TokenIs(LABEL, CONFIDENTIALITY, lower) for lower in LEVELS[:place]))


def _without(codes: frozenset[str]) -> Predicate:
    return negated(either(TokenIs(LABEL, SENSITIVITY, code) for code in sorted(codes)))


def either(parts: Iterable[Predicate]) -> Predicate:
    """Any of them, flat."""
    found: dict[Predicate, None] = {}
    for part in parts:
        inner = part.parts if isinstance(part, Any) else (part,)
        found.update(dict.fromkeys(inner))
    if TRUE in found:
        return TRUE
    kept = tuple(found)
    return kept[0] if len(kept) == 1 else Any(kept)


def every(parts: Iterable[Predicate]) -> Predicate:
    """All of them, flat."""
    found: dict[Predicate, None] = {}
    for part in parts:
        inner = part.parts if isinstance(part, All) else (part,)
        found.update(dict.fromkeys(inner))
    if FALSE in found:
        return FALSE
    kept = tuple(found)
    return kept[0] if len(kept) == 1 else All(kept)


def negated(part: Predicate) -> Predicate:
    if isinstance(part, Not):
        return part.part
    if part in (TRUE, FALSE):
        return FALSE if part == TRUE else TRUE
    return Not(part)
