"""A Provenance that is written is tied to the patient of what it is about (``access/ties``)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.drafts import Prepared
from fhir_server.access.engine import Engine
from fhir_server.access.ties import PROVENANCE, with_patient
from fhir_server.formats.json import loads
from fhir_server.model.resource import Key
from fhir_server.search.values import IndexValues

APART: Final = frozenset({"AuditEvent", "Binary", "Consent", PROVENANCE})
"""What tells of them is not part of the record of a patient, or has rules of its own
(``consent/policy``)."""
TURN: Final = 25
"""Targets that are read before others get a turn on the loop."""
WORN: Final = "Device"
"""Outside of the compartment, though it names its patient (``roles.ABOUT``)."""


async def tied(engine: Engine, prepared: Sequence[Prepared]) -> list[Prepared]:
    """With each Provenance tied to the one patient whom all its targets are about, if so."""
    if not any(one.draft.key.type == PROVENANCE for one in prepared):
        return list(prepared)
    known = {
        one.draft.key: patients_of(one.draft.key, one.values) if one.values is not None else ()
        for one in prepared
    }
    above = [_targets(one) for one in prepared]
    known |= await _stored(engine, {key for keys in above for key in keys} - known.keys())
    return [
        _tied(engine, one, [known.get(key, ()) for key in keys])
        for one, keys in zip(prepared, above, strict=True)
    ]


def patients_of(key: Key, values: IndexValues) -> tuple[str, ...]:
    """The patients whom a target of a Provenance is about."""
    if key.type in APART:
        return ()
    if key.type == WORN:
        named = (r.id for r in values.references if r.param == "patient" and r.type == "Patient")
        return tuple(dict.fromkeys(named))
    return values.patients


def _targets(one: Prepared) -> list[Key]:
    if one.draft.key.type != PROVENANCE or one.values is None:
        return []
    return [Key(r.type, r.id) for r in one.values.references if r.param == "target" and r.id]


def _is_direct(one: Prepared) -> bool:
    """Does R4 have it in the compartment of a patient?"""
    return any(key.type == "Patient" for key in _targets(one))


async def _stored(engine: Engine, keys: Collection[Key]) -> dict[Key, tuple[str, ...]]:
    wanted = [key for key in sorted(keys) if key.type not in APART]
    known: dict[Key, tuple[str, ...]] = {}
    for start in range(0, len(wanted), TURN):
        for stored in await engine.store.current(wanted[start : start + TURN]):
            if stored is not None and not stored.deleted:
                values = engine.extract(loads(stored.body))
                known[stored.key] = patients_of(stored.key, values)
        await asyncio.sleep(0)
    return known


def _tied(engine: Engine, one: Prepared, about: Sequence[tuple[str, ...]]) -> Prepared:
    if one.draft.key.type != PROVENANCE or one.resource is None:
        return one
    found = {patient for patients in about for patient in patients}
    alone = len(found) == 1 and all(about) and not _is_direct(one)
    (patient,) = found if alone else (None,)
    resource = with_patient(one.resource, patient)
    if resource is one.resource:
        return one
    values = engine.extract({**resource, "id": one.draft.key.id})
    return replace(one, resource=resource, values=values)
