"""Where in a Consent something is said: paths of its rules, for the audit trail and for people.

``provision`` is the root rule, ``provision.provision[0]`` the first that is nested in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.decision import POLICIES, Rules, matches
from fhir_server.access.consent.domain import implicit_purposes
from fhir_server.access.consent.provisions import Consent, Provision

ROOT: Final = "provision"


@dataclass(frozen=True, slots=True)
class Paths:
    """The rules that concern a reader at all, whatever the resource is. ``everything``: one of
    those that deny denies all."""

    permitting: tuple[str, ...] = ()
    denying: tuple[str, ...] = ()
    everything: bool = False


def concerns(rule: Provision, letter: str, reader: Reader) -> bool:
    """Can it match for this reader, now, and for what is done?"""
    strange = rule.strange
    if strange and rule.permit:
        return False
    known = (
        ("period", True, rule.period.lo <= reader.now < rule.period.hi),
        ("actor", rule.actors, not rule.actors.isdisjoint(reader.names)),
        ("action", rule.actions, reader.does(letter, rule.actions)),
        ("purpose", rule.purposes, reader.states(rule.purposes)),
    )
    return all(holds or name in strange or not there for name, there, holds in known)


def concerning(consent: Consent, letter: str, reader: Reader) -> Paths:
    """What of one consent concerns a reader."""
    found = _paths(consent.root, letter, reader, ROOT)
    policy = POLICIES.get(consent.policy)
    if policy is None or not implicit_purposes(policy, reader.purpose):
        return found
    return Paths((*found.permitting, f"policy {consent.policy}"), found.denying, found.everything)


def _paths(rule: Provision, letter: str, reader: Reader, place: str) -> Paths:
    inner = [
        _paths(one, letter, reader, f"{place}.provision[{number}]")
        for number, one in enumerate(rule.inner)
    ]
    permitting = [path for one in inner for path in one.permitting]
    denying = [path for one in inner for path in one.denying]
    everything = any(one.everything for one in inner)
    if rule.permit is not None and concerns(rule, letter, reader):
        if rule.permit:
            permitting.insert(0, place)
        else:
            everything = everything or not (permitting or _is_selective(rule))
            denying.insert(0, place)
    return Paths(tuple(permitting), tuple(denying), everything)


def _is_selective(rule: Provision) -> bool:
    """Does it depend on the resource?"""
    about = (rule.labels, rule.types, rule.profiles, rule.codes, rule.timeframe, rule.data)
    return any(about)


def decisive(
    rule: Provision, facts: Facts, letter: str, permit: bool, reader: Reader, rules: Rules
) -> str:
    """The rule that permits, or denies, this; empty where it is the policy that a consent names."""
    return _decisive(rule, facts, letter, permit, reader, rules, ROOT)


def _decisive(
    rule: Provision,
    facts: Facts,
    letter: str,
    permit: bool,
    reader: Reader,
    rules: Rules,
    place: str,
) -> str:
    for number, inner in enumerate(rule.inner):
        nested = f"{place}.provision[{number}]"
        found = _decisive(inner, facts, letter, permit, reader, rules, nested)
        if found:
            return found
    mine = rule.permit is permit and matches(rule, facts, letter, reader, rules)
    return place if mine else ""
