"""A Provenance is tied to the patient of what it is about (``access/ties``).

That is when it is written, and when what it is about comes later or comes to be about others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.drafts import Prepared, form_of
from fhir_server.access.engine import Engine
from fhir_server.access.labels import LABEL, tokens
from fhir_server.access.raising import Item, inherited, labels_of
from fhir_server.access.ties import PROVENANCE, TIED, with_patient
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import (
    All,
    Any,
    InPatient,
    Not,
    Predicate,
    Present,
    ReferenceIs,
    Scan,
    Search,
)
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Change

APART: Final = frozenset({"AuditEvent", "Binary", "Consent", PROVENANCE})
"""What tells of them is not part of the record of a patient, or has rules of its own
(``consent/policy``)."""
TURN: Final = 25
"""Targets that are read before others get a turn on the loop."""
WORN: Final = "Device"
"""Outside of the compartment, though it names its patient (``roles.ABOUT``)."""
TIE: Final[Predicate] = Present(TIED, "reference")


async def tied(engine: Engine, prepared: Sequence[Prepared]) -> list[Prepared]:
    """With each Provenance tied to the one patient whom all its targets are about, if so."""
    if not any(one.draft.key.type == PROVENANCE for one in prepared):
        return list(prepared)
    known = {
        one.draft.key: patients_of(one.draft.key, one.values) if one.values is not None else ()
        for one in prepared
    }
    above = [_targets(one.draft.key, one.values) for one in prepared]
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


async def tied_later(
    engine: Engine, plans: Iterable[object], current: Iterable[Stored | None]
) -> list[Change]:
    """The changes to those that are tied otherwise now, to be committed with ``plans``.
    ``current``: what is there of each."""
    pairs = [(one, now) for one, now in zip(plans, current, strict=True) if isinstance(one, Change)]
    written = {one.key: one.values for one, _ in pairs if one.values is not None}
    keys = [one.key for one, now in pairs if one.key in written and _may_move(one, now)]
    left = {one.key for one, _ in pairs}
    found: list[Change] = []
    for start in range(0, len(keys), TURN):
        about = {key: patients_of(key, written[key]) for key in keys[start : start + TURN]}
        search: Search | None = Search(
            (Scan(PROVENANCE, _otherwise(about)),), count=TURN, total="none"
        )
        while search is not None:
            page = await engine.store.run(search)
            for stored in page.matches:
                if stored.key not in left:
                    left.add(stored.key)
                    found += await _retied(engine, stored, list(written.items()))
            search = replace(search, after=page.next) if page.next else None
    return found


def _may_move(change: Change, now: Stored | None) -> bool:
    """May it be about another patient than before? Nothing that is stored can be about an id that
    the server has just made up; what refers as before is in the same record."""
    if change.method == "POST" or change.key.type in APART:
        return False
    if now is None or now.deleted:
        return True
    before, after = loads(now.body), loads(change.body)
    return any(
        before.get(name) != after.get(name)
        and (_refers(before.get(name)) or _refers(after.get(name)))
        for name in {*before, *after} - {"meta", "text"}
    )


def _refers(value: object) -> bool:
    """Does a reference stand in it?"""
    if isinstance(value, dict):
        return "reference" in value or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))


def _otherwise(about: Mapping[Key, tuple[str, ...]]) -> Predicate:
    """Those about one of these that are not in the record of its patient, if it is one."""
    keys: dict[tuple[str, ...], list[Predicate]] = defaultdict(list)
    for key, patients in about.items():
        keys[patients if len(patients) == 1 else ()].append(ReferenceIs("target", *key))
    return Any(
        tuple(
            All((Any(tuple(some)), Not(InPatient(patients)) if patients else TIE))
            for patients, some in keys.items()
        )
    )


async def _retied(engine: Engine, stored: Stored, written: Sequence[Item]) -> list[Change]:
    """The change to it, if it is tied otherwise now."""
    before = loads(stored.body)
    targets = _targets(stored.key, engine.extract(before))
    after = with_patient(before, await _patient(engine, targets, written))
    if after is before:
        return []
    values = engine.extract(after)
    *_, more = await inherited(engine, [*written, (stored.key, values)])
    if not more <= labels_of(values):
        kept = [token for token in values.tokens if token.param != LABEL]
        values.tokens = [*kept, *tokens(labels_of(values) | more)]
    return [_change(engine, stored, after, values)]


def _change(engine: Engine, stored: Stored, after: Json, values: IndexValues) -> Change:
    version = stored.version + 1
    updated = max(engine.now() // 1000 * 1000, stored.updated + 1000)
    body = form_of(after, stored.key, version, updated)
    return Change(stored.key, version, updated, body, values, "PUT", stored.version)


async def _patient(engine: Engine, targets: Sequence[Key], written: Sequence[Item]) -> str | None:
    """The one patient whom all these are about, if they are all there."""
    if _is_direct(targets) or any(key.type in APART or not key.id for key in targets):
        return None
    about = {key: patients_of(key, values) for key, values in written}
    wanted = sorted(set(targets) - about.keys())
    rows: list[Stored] = []
    for start in range(0, len(wanted), TURN):
        turn = wanted[start : start + TURN]
        found = [one for one in await engine.store.current(turn) if one and not one.deleted]
        if len(found) < len(turn):
            return None
        rows += found
        await asyncio.sleep(0)
    for place, stored in enumerate(rows, 1):
        about[stored.key] = _of(engine, stored)
        if place % TURN == 0:
            await asyncio.sleep(0)
    return _alone([about[key] for key in targets])


async def _stored(engine: Engine, keys: Collection[Key]) -> dict[Key, tuple[str, ...]]:
    wanted = [key for key in sorted(keys) if key.type not in APART and key.id]
    known: dict[Key, tuple[str, ...]] = {}
    for start in range(0, len(wanted), TURN):
        for stored in await engine.store.current(wanted[start : start + TURN]):
            if stored is not None and not stored.deleted:
                known[stored.key] = _of(engine, stored)
        await asyncio.sleep(0)
    return known


def _of(engine: Engine, stored: Stored) -> tuple[str, ...]:
    return patients_of(stored.key, engine.extract(loads(stored.body)))


def _tied(engine: Engine, one: Prepared, about: Sequence[tuple[str, ...]]) -> Prepared:
    if one.draft.key.type != PROVENANCE or one.resource is None:
        return one
    is_direct = _is_direct(_targets(one.draft.key, one.values))
    resource = with_patient(one.resource, None if is_direct else _alone(about))
    if resource is one.resource:
        return one
    values = engine.extract({**resource, "id": one.draft.key.id})
    return replace(one, resource=resource, values=values)


def _targets(key: Key, values: IndexValues | None) -> list[Key]:
    """Without an id: of what is elsewhere."""
    if key.type != PROVENANCE or values is None:
        return []
    return [Key(r.type, r.id) for r in values.references if r.param == "target"]


def _is_direct(targets: Iterable[Key]) -> bool:
    """Does R4 have it in the compartment of a patient?"""
    return any(key.type == "Patient" for key in targets)


def _alone(about: Sequence[tuple[str, ...]]) -> str | None:
    """The patient whom each is about, and nobody else."""
    found = {patient for patients in about for patient in patients}
    return found.pop() if len(found) == 1 and all(about) else None
