"""What of the scopes that an app asks for it may be granted, and how a person may narrow it.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html. Nothing ever widens: a
granted scope is one that was asked for, or a part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fhir_server.access.policy import CompileFilter
from fhir_server.access.scopes import LETTERS, Scope, parse_scope
from fhir_server.model.problem import Problem

WORDS: Final = (
    "openid",
    "fhirUser",
    "launch",
    "launch/patient",
    "launch/encounter",
    "offline_access",
    "online_access",
)
"""Scopes that are not of resources."""
INTROSPECTION: Final = "introspection"
"""Our own: its client may ask what the tokens of others are."""

ADMINISTRATION: Final = "administration"
"""Our own: administrators act through its client."""
OWN: Final = frozenset({INTROSPECTION, ADMINISTRATION})

CATEGORIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "Observation": (
        "http://terminology.hl7.org/CodeSystem/observation-category",
        ("laboratory", "vital-signs", "social-history", "survey", "imaging", "exam"),
    ),
    "Condition": (
        "http://terminology.hl7.org/CodeSystem/condition-category",
        ("problem-list-item", "encounter-diagnosis"),
    ),
    "DocumentReference": (
        "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
        ("clinical-note",),
    ),
}
"""What a person may narrow a type to: type -> code system and codes of ``category``."""


RECORD: Final = (
    *("Patient", "Condition", "AllergyIntolerance", "MedicationRequest", "MedicationStatement"),
    *("Immunization", "Observation", "DiagnosticReport", "ImagingStudy", "Procedure"),
    *("Encounter", "Appointment", "DocumentReference", "CarePlan", "Goal"),
    *("FamilyMemberHistory", "QuestionnaireResponse", "Coverage"),
)
"""What a person may narrow the whole record to: types."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One scope on the consent page. ``parts``: (category code or type, scope) that it may be
    narrowed to; ``scope`` None: not a scope of resources.
    """

    text: str
    scope: Scope | None
    parts: tuple[tuple[str, str], ...] = ()


class Negotiation:
    """``compile_filter``: refuses search parameters of scopes that cannot be used."""

    def __init__(self, types: Collection[str], compile_filter: CompileFilter) -> None:
        self.types = types
        self._compile = compile_filter

    def parsed(self, text: str) -> Scope | None:
        """A resource scope; None for what is none or cannot be used."""
        try:
            scope = parse_scope(text, self.types)
            if scope.filters:
                self._compile(scope.type, scope.filters)
        except (Problem, ValueError):
            return None
        return scope

    def granted(self, asked: str, allowed: str, contexts: Collection[str]) -> list[str]:
        """The scopes of a request that a client may have, in their order, each once.

        What is not known or not allowed is left out. ``contexts``: of patient, user, system.
        """
        ceiling = [s for s in map(self.parsed, allowed.split()) if s is not None]
        words = set(allowed.split())
        found: list[str] = []
        for text in asked.split():
            if text in WORDS or text in OWN:
                found += [text] if text in words else []
                continue
            scope = self.parsed(text)
            if scope is not None and scope.context in contexts:
                found += _common(text, scope, ceiling)
        return list(dict.fromkeys(found))

    def covers(self, granted: str, asked: str) -> bool:
        """Is everything in ``asked`` part of ``granted``?"""
        words = set(granted.split())
        held = [s for s in map(self.parsed, words) if s is not None]
        for text in asked.split():
            scope = self.parsed(text)
            if text not in words and (scope is None or not _within(scope, held)):
                return False
        return True

    def offers(self, scopes: Iterable[str]) -> list[Offer]:
        """How the scopes stand on the consent page."""
        asked = list(scopes)
        found = []
        for text in asked:
            scope = self.parsed(text) if "/" in text and text not in WORDS else None
            parts = _parts(text, scope) if scope is not None else ()
            found.append(Offer(text, scope, tuple(p for p in parts if p[1] not in asked)))
        return found


def chosen(offers: Iterable[Offer], ticked: Collection[str]) -> list[str] | None:
    """What a person left ticked; None if something was not on offer."""
    left, found = set(ticked), []
    for offer in offers:
        parts = [scope for _, scope in offer.parts if scope in left]
        if offer.text in left:
            found.append(offer.text)
        else:
            found += parts
        left -= {offer.text, *parts}
    return None if left else found


IN_CONTEXT: Final = ("launch/patient", "launch/encounter")


def needs_patient(scopes: Iterable[str]) -> bool:
    return any(text in IN_CONTEXT or text.startswith("patient/") for text in scopes)


def _parts(text: str, scope: Scope) -> tuple[tuple[str, str], ...]:
    """What a scope may be narrowed to; in the version of SMART's scopes that it is written in."""
    if scope.type == "*":
        access = text.partition(".")[2]
        return tuple((type_, f"{scope.context}/{type_}.{access}") for type_ in RECORD)
    if scope.filters or scope.type not in CATEGORIES:
        return ()
    system, codes = CATEGORIES[scope.type]
    return tuple((code, _narrowed(scope, system, code)) for code in codes)


def _narrowed(scope: Scope, system: str, code: str) -> str:
    return f"{scope.context}/{scope.type}.{scope.letters}?category={system}|{code}"


def _common(text: str, scope: Scope, ceiling: Iterable[Scope]) -> list[str]:
    """The parts of a scope under the ceiling; the scope as it was asked for if that is whole."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
    for most in ceiling:
        types = (most.type, scope.type)
        if most.context != scope.context or (types[0] != types[1] and "*" not in types):
            continue
        type_ = scope.type if most.type == "*" else most.type
        filters = tuple(dict.fromkeys((*scope.filters, *most.filters)))
        letters = set(scope.letters) & set(most.letters)
        if letters and not (filters and type_ == "*"):
            found.setdefault((type_, filters), set()).update(letters)
    if found.get((scope.type, scope.filters), set()) >= set(scope.letters):
        return [text]
    return [
        written(scope.context, type_, "".join(x for x in LETTERS if x in letters), filters)
        for (type_, filters), letters in found.items()
    ]


def written(context: str, type_: str, letters: str, filters: Iterable[tuple[str, str]]) -> str:
    """A scope of version 2 as text."""
    query = "&".join(f"{name}={quote(value, safe=':/|,.-_~')}" for name, value in filters)
    return f"{context}/{type_}.{letters}" + (f"?{query}" if query else "")


def _within(scope: Scope, held: Iterable[Scope]) -> bool:
    letters: set[str] = set()
    for one in held:
        same = one.context == scope.context and one.type in ("*", scope.type)
        if same and set(one.filters) <= set(scope.filters):
            letters |= set(one.letters)
    return letters >= set(scope.letters)
