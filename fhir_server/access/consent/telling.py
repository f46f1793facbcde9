"""What the audit trail is told of decisions: which consents took part, and which of their rules.

Of an answer: per patient, what let it through. Of a single resource that was denied: what denies
it; that is worked out after the answer, for what is hidden and what is absent alike.
"""

from __future__ import annotations

from dataclasses import replace

from fhir_server.access.audit.entry import Decision
from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.codes import HELD, OF_MINORS, SENSITIVITY, Code
from fhir_server.access.consent.decision import Rules, at_last, decide, in_force, says
from fhir_server.access.consent.paths import concerning, decisive
from fhir_server.access.consent.provisions import Consent
from fhir_server.access.labels import LABEL
from fhir_server.formats.json import loads
from fhir_server.model.resource import Stored
from fhir_server.search.codings import codings
from fhir_server.search.values import DATE_MIN, IndexValues

PERMIT, DENY = "permit", "deny"


def taking_part(patient: str, letter: str, reader: Reader, rules: Rules) -> Decision | None:
    """What this patient's consents have to do with what the reader is answered; None if no consent
    is asked: it is the reader's own data, or nothing is recorded for this purpose. (What is seen
    over broken glass is told by the act.)"""
    if patient in reader.own or patient in reader.acts_for or patient in reader.broken:
        return None
    active = [one for one in rules.consents.get(patient, ()) if in_force(one, reader)]
    if not active:
        return None
    said, permits, everything = [], False, False
    for consent in active:
        paths = concerning(consent, letter, reader)
        permits = permits or bool(paths.permitting)
        everything = everything or paths.everything
        parts = [*(f"{path} {PERMIT}" for path in paths.permitting)]
        parts += [f"{path} {DENY}" for path in paths.denying]
        if parts:
            said.append(f"Consent/{consent.id} {', '.join(parts)}")
    return Decision(
        patient=patient,
        outcome=PERMIT if permits and not everything else DENY,
        rule="; ".join(said) or "no consent permits it",
        purpose=reader.purpose,
        consents=_used(active),
    )


def denying(facts: Facts, letter: str, reader: Reader, rules: Rules) -> list[Decision]:
    """Of each patient who denies this reader this resource, how. ``private``: the patients
    themselves, or those who act for them, may not be told of it either."""
    found = []
    for patient in facts.patients:
        alone = replace(facts, patients=(patient,))
        decision = decide(alone, letter, reader, rules)
        if decision.permitted:
            continue
        active = [one for one in rules.consents.get(patient, ()) if in_force(one, reader)]
        found.append(
            Decision(
                patient=patient,
                outcome=DENY,
                rule=_rule(active, alone, letter, reader, rules) or decision.why,
                purpose=reader.purpose,
                consents=_used(active),
                private=_is_kept(facts),
            )
        )
    return found


def _rule(active: list[Consent], facts: Facts, letter: str, reader: Reader, rules: Rules) -> str:
    for consent in active:
        root = at_last(consent.root) if facts.patients[0] in reader.broken else consent.root
        one = replace(consent, root=root)
        if says(one, facts, letter, reader, rules) is False:
            path = decisive(root, facts, letter, False, reader, rules)
            return f"Consent/{consent.id} {path} {DENY}"
    return ""


def _is_kept(facts: Facts) -> bool:
    codes = {label.code for label in facts.labels if label.system == SENSITIVITY}
    return not codes.isdisjoint(HELD | OF_MINORS)


def _used(consents: list[Consent]) -> tuple[tuple[str, int], ...]:
    return tuple((one.id, one.version) for one in consents)


def facts_of(stored: Stored, values: IndexValues) -> Facts:
    """What a decision looks at in a stored version. ``values``: as they are indexed."""
    resource = loads(stored.body)
    labels = (token for token in values.tokens if token.param == LABEL)
    profiles = resource.get("meta", {}).get("profile", ())
    return Facts(
        key=stored.key,
        patients=values.patients,
        labels=frozenset(Code(token.system, token.code) for token in labels),
        codings=frozenset(Code(*coding) for coding in codings(resource)),
        profiles=frozenset(profiles),
        date=stored.updated if values.date == DATE_MIN else values.date,
        references=tuple(values.references),
    )
