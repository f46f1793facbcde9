"""Labels only rise: what is written bears the labels of its contents, of what it belongs to, and
of its former versions.

They go into ``meta.security`` of what is stored, so that history and copies keep them. Labels
that new rules find are put into the index alone by a reindex.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.consent.codes import (
    CONFIDENTIALITY,
    RESTRICTED,
    Code,
)
from fhir_server.access.drafts import Prepared
from fhir_server.access.engine import Engine
from fhir_server.access.labels import DERIVATION, LABEL, effective, own_labels
from fhir_server.formats.json import loads
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import All, IdIn, Present, Scan, Search
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Change

INHERITED: Final[Mapping[str, frozenset[str]]] = {
    "*": frozenset({"encounter", "context"}),
    "AuditEvent": frozenset({"entity"}),
    "DetectedIssue": frozenset({"implicated"}),
    "DocumentManifest": frozenset({"item"}),
    "MedicationAdministration": frozenset({"context"}),
    "Observation": frozenset({"derived-from", "encounter"}),
    "Provenance": frozenset({"target"}),
    "Flag": frozenset({"encounter", DERIVATION}),
    "RiskAssessment": frozenset({"encounter", "condition", DERIVATION}),
    "Task": frozenset({"focus", "encounter"}),
}
"""Indexes by which a resource inherits the labels of what it refers to: the encounter in which it
arose, what it is derived from, what it is about."""

RISEN: Final = ("labels-risen", "epoch")
"""The row of the ledger that counts the writes that label something."""
PARTED: Final = "labels-parted"
"""Rows ``Type/id``: what was deleted bore beside what its body says."""
REMEMBERED: Final = 65_536

Item = tuple[Key, IndexValues]


def labels_of(values: IndexValues) -> frozenset[Code]:
    """The labels in the index values."""
    return frozenset(Code(t.system, t.code) for t in values.tokens if t.param == LABEL)


def inheriting(type_: str) -> frozenset[str]:
    """The indexes of a type by which it inherits."""
    return INHERITED.get(type_, INHERITED["*"])


def parents(item: Item) -> list[Key]:
    """What the resource inherits from."""
    key, values = item
    params = inheriting(key.type)
    return [Key(r.type, r.id) for r in values.references if r.param in params and r.id]


async def inherited(
    engine: Engine, items: Sequence[Item], above: Sequence[Sequence[Key]] | None = None
) -> list[frozenset[Code]]:
    """What each inherits, from what is stored and from what is written with it. ``above``: the
    parents of each, where they are known."""
    if above is None:
        above = [parents(item) for item in items]
    if not any(above):
        return [frozenset()] * len(items)
    known = {key: labels_of(values) for key, values in items}
    outside = {parent for keys in above for parent in keys if parent not in known}
    known |= await borne(engine, outside)
    return _handed_down(known, [key for key, _ in items], above)


def _handed_down(
    known: dict[Key, frozenset[Code]], keys: Sequence[Key], above: Sequence[Sequence[Key]]
) -> list[frozenset[Code]]:
    """What each of ``keys`` has from those above it; ``known`` is completed."""
    found: list[frozenset[Code]] = [frozenset()] * len(keys)
    changed = True
    while changed:
        changed = False
        for place, key in enumerate(keys):
            gained = frozenset(c for parent in above[place] for c in known.get(parent, ()))
            if not gained <= found[place]:
                found[place] |= gained
                known[key] |= gained
                changed = True
    return found


async def borne(engine: Engine, keys: Collection[Key]) -> dict[Key, frozenset[Code]]:
    """The labels of what is stored, or was last, of those that have any: what its bytes say, what
    rules find in it now, and what it inherits."""
    if not keys:
        return {}
    epoch, known = await risen_epoch(engine), engine.unlabelled
    if epoch != known.epoch or len(known.keys) > REMEMBERED:
        known.epoch, known.keys = epoch, set()
    unlabelled = known.keys  # of this epoch: while we look, another may begin
    unknown = [key for key in keys if key not in unlabelled]
    found = await _looked_up(engine, unknown) if unknown else {}
    unlabelled.update(key for key in unknown if key not in found)
    return found


async def risen_epoch(engine: Engine) -> int:
    """How many writes have labelled something."""
    row = await engine.store.ledger.get(*RISEN)
    return 0 if row is None else row.revision


async def _looked_up(engine: Engine, keys: Sequence[Key]) -> dict[Key, frozenset[Code]]:
    """Up to where labels come from: what is inherited may stand in the index alone."""
    found: dict[Key, frozenset[Code]] = {}
    above: dict[Key, list[Key]] = {}
    seen, fresh = set(keys), list(keys)
    while fresh:
        found |= await _gone(engine, fresh)
        for stored in await _labelled(engine, fresh):
            values = engine.extract(loads(stored.body))
            found[stored.key] = labels_of(values)
            above[stored.key] = parents((stored.key, values))
        fresh = list({parent for key in fresh for parent in above.get(key, ())} - seen)
        seen.update(fresh)
    _handed_down(found, [*above], [*above.values()])
    unsaid = frozenset({Code(CONFIDENTIALITY, RESTRICTED)})
    return {key: labels or unsaid for key, labels in found.items()}


async def _labelled(engine: Engine, keys: Sequence[Key]) -> Sequence[Stored]:
    """Those of which the index says that they have labels."""
    by: dict[str, list[str]] = {}
    for key in keys:
        by.setdefault(key.type, []).append(key.id)
    labelled = Present(LABEL, "token")
    scans = tuple(Scan(type_, All((IdIn(tuple(ids)), labelled))) for type_, ids in by.items())
    most = sum(map(len, by.values()))
    return (await engine.store.run(Search(scans, count=most, total="none"))).matches


async def _gone(engine: Engine, keys: Sequence[Key]) -> dict[Key, frozenset[Code]]:
    """The labels of what was deleted, as it was last: what comes of it has them still. All are
    looked for, so that it makes no difference what is there (L53)."""
    found = {}
    for stored in await engine.store.current(keys):
        if stored is None or not stored.deleted:
            continue
        before = await engine.store.version(stored.key, stored.version - 1)
        if before is None or not before.body:
            continue
        labels = labels_of(engine.extract(loads(before.body)))
        labels |= await labels_parted(engine, stored.key)
        if labels:
            found[stored.key] = labels
    return found


async def labels_parted(engine: Engine, key: Key) -> frozenset[Code]:
    """What it bore, when it was deleted, beside what its body says."""
    row = await engine.store.ledger.get(PARTED, str(key))
    return frozenset(Code(*label) for label in row.value["labels"]) if row else frozenset()


def raised(engine: Engine, item: Prepared, more: frozenset[Code]) -> Prepared:
    """With the labels that it should bear in ``meta.security``."""
    assert item.values is not None and item.resource is not None
    wanted = labels_of(item.values) | more
    if not wanted:
        return item
    lacking = effective(wanted) - own_labels(item.resource)
    if not lacking:
        return item
    meta = item.resource.get("meta", {})
    added = [{"system": system, "code": code} for system, code in sorted(lacking)]
    marked = {**meta, "security": [*meta.get("security", ()), *added]}
    resource = {**item.resource, "meta": marked}
    values = engine.extract({**resource, "id": item.draft.key.id})
    return replace(item, resource=resource, values=values)


async def kept(engine: Engine, current: Iterable[Stored | None]) -> dict[Key, frozenset[Code]]:
    """The labels of the versions before, which the next ones keep, of those that have any: also
    what stands in the index alone, and what was borne by what is deleted."""
    living = [one for one in current if one is not None]
    found = await borne(engine, [one.key for one in living])
    return found | {one.key: carried(one) | found.get(one.key, frozenset()) for one in living}


def carried(current: Stored) -> frozenset[Code]:
    """The labels in the bytes of a version."""
    if current.deleted or b'"security":[' not in current.body:
        return frozenset()
    return own_labels(loads(current.body))


def rising(plans: Iterable[object], current: Iterable[Stored | None]) -> list[Key]:
    """The resources that changes label with what their current versions do not bear. Nothing that
    is stored can inherit from an id that the server has just made up."""
    return [
        change.key
        for change, now in zip(plans, current, strict=True)
        if isinstance(change, Change)
        and change.values is not None
        and change.method != "POST"
        and (labels := labels_of(change.values))
        and (now is None or not labels <= carried(now))
    ]
