"""Codes that fewer than k people have: what is above them in their system, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from .census import Parents
from .sizes import kept, noted

ICD: Final = ("http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-9-cm")
"""Systems whose codes are below those that they begin with; and national ones of ICD-10."""
CATEGORY: Final = 3
MOST_STEPS: Final = 12


def above(system: str, code: str) -> str | None:
    """In ICD: ``E11.65`` is below ``E11.6``, and that below ``E11``."""
    if not system.startswith(ICD):
        return None
    shorter = code[:-1].rstrip(".")
    return shorter if len(shorter) >= CATEGORY else None


async def shown(
    paths: Iterable[tuple[str, dict[str, set[int]]]],
    k: int,
    parents: Parents,
    alone: bool = True,
) -> dict[tuple[str, str], str | None]:
    """``paths``: path -> system|code -> people. -> what each code is shown as. ``alone``: codes
    are all that hides people, so what is hidden has to be of k too."""
    found: dict[tuple[str, str], str | None] = {}
    known: dict[str, str | None] = {}

    async def up(key: str) -> str | None:
        if key not in known:
            system, _, code = key.rpartition("|")
            parent = above(system, code) or await parents(system, code)
            known[key] = None if parent is None else f"{system}|{parent}"
        return known[key]

    for path, groups in paths:
        told: dict[str, str] = {key: key for key in groups}
        for _ in range(MOST_STEPS):
            people = _people(told, groups, k)
            rare = sorted(key for key, one in told.items() if len(people[one]) < k)
            higher = {key: parent for key in rare if (parent := await up(told[key])) is not None}
            if not higher:
                break
            told |= higher
        people = _people(told, groups, k)
        stay = kept(people, k) if alone else {one for one in people if len(people[one]) >= k}
        found |= {(path, key): one if one in stay else None for key, one in told.items()}
    return found


def _people(told: Mapping[str, str], groups: Mapping[str, set[int]], k: int) -> dict[str, set[int]]:
    """Of each code as it would be shown."""
    people: dict[str, set[int]] = {}
    for key, one in told.items():
        some = people.setdefault(one, set())
        for person in groups[key]:
            noted(some, person, k)
    return people
