"""A scan of the data of a few patients is judged by what these permit, not by all rules.

What is also in the compartment of another patient needs the rules of all; it bears a mark
(``labels.SHARED``), so that the common case is a test of the labels alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fhir_server.access.labels import SHARED
from fhir_server.search.plan import (
    TRUE,
    All,
    Any,
    EachPatient,
    IdIn,
    InPatient,
    Not,
    Predicate,
    ReferenceIs,
    TokenIs,
)

FEW: Final = 8
"""Patients of one scan who are named one by one."""
_ALONE: Final = Not(TokenIs(*SHARED))


def pinned(type_: str, where: Predicate) -> Predicate:
    """The same for every resource, with ``EachPatient`` as narrow as ``where`` itself is."""
    if isinstance(where, EachPatient) or not isinstance(where, All):
        return where
    parts = list(_conjuncts(where))
    rules = [part for part in parts if isinstance(part, EachPatient)]
    if not rules:
        return where
    kept: list[Predicate] = [part for part in parts if not isinstance(part, EachPatient)]
    for each in rules:
        found = [ids for part in kept if (ids := _patients(type_, part, each))]
        patients = min(found, key=len, default=())
        if not patients or len(patients) > FEW:
            kept.append(each)
            continue
        kept = [part for part in kept if not _implied(part, patients)]
        kept += _named(patients, each)
        kept.append(Any((_ALONE, each)))
    return All(tuple(part for part in kept if part != TRUE))


def _implied(part: Predicate, patients: tuple[str, ...]) -> bool:
    """Does what is in the compartment of one of these hold this anyway?"""
    return (
        isinstance(part, InPatient) and len(part.ids) > len(patients) and {*patients} <= {*part.ids}
    )


def _named(patients: tuple[str, ...], each: EachPatient) -> Iterable[Predicate]:
    by: dict[Predicate, list[str]] = {}
    for patient in patients:
        by.setdefault(each.of(patient), []).append(patient)
    if len(by) == 1:
        return tuple(by)
    return [Any((Not(InPatient(tuple(ids))), rule)) for rule, ids in by.items()]


def _patients(type_: str, part: Predicate, each: EachPatient) -> tuple[str, ...]:
    """The patients of whom at least one has what ``part`` finds in the compartment."""
    match part:
        case InPatient(ids):
            return ids
        case IdIn(ids) if type_ == "Patient":
            return ids
        case ReferenceIs(param, "Patient", str() as id_) if param in each.params:
            return (id_,)
        case Any(parts):
            found = [_patients(type_, one, each) for one in parts]
            return tuple(dict.fromkeys(i for ids in found for i in ids)) if all(found) else ()
        case _:
            return ()


def _conjuncts(where: Predicate) -> Iterable[Predicate]:
    if isinstance(where, All):
        for part in where.parts:
            yield from _conjuncts(part)
    else:
        yield where
