"""Labels reach what inherits them, also when they come later than it.

The commit that labels a resource writes a row ``labels`` for it; what inherits is then labelled in
the index, and the row goes. What a crash leaves is done by the upkeep of the next server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.drafts import Draft
from fhir_server.access.engine import Engine
from fhir_server.access.labels import LABEL, tokens
from fhir_server.access.raising import (
    RISEN,
    inherited,
    inheriting,
    labels_of,
    parents,
    risen_epoch,
)
from fhir_server.formats.json import loads
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import Any, Predicate, ReferenceIs, Scan, Search
from fhir_server.store.base import Change, ChangeSet, Reindexed
from fhir_server.store.ledger import LedgerWrite

DUE: Final = "labels"
PAGE: Final = 200
OWN_STEPS: Final = 2
"""By which a write that labels moves the epoch of ``RISEN``: its commit, and what follows."""


def due(keys: Iterable[Key]) -> tuple[LedgerWrite, ...]:
    """The rows that go with a commit which labels these."""
    rows = tuple(LedgerWrite(DUE, str(key), {}) for key in keys)
    return (*rows, LedgerWrite(*RISEN, {})) if rows else ()


async def settle_labels(engine: Engine) -> None:
    """Label what inherits from everything that is due."""
    rows = await engine.store.ledger.scan(DUE)
    if rows:
        await propagate(engine, [Key(*row.key.split("/")) for row in rows])


async def propagate(engine: Engine, keys: Sequence[Key]) -> None:
    """Label what inherits from these, and what inherits from that."""
    types = sorted((await engine.store.counts()).keys() & engine.definitions.resource_types)
    seen, fresh = set(keys), list(keys)
    while fresh:
        scans = tuple(scan for type_ in types if (scan := _below(type_, fresh)) is not None)
        fresh = []
        search = Search(scans, count=PAGE, total="none") if scans else None
        while search is not None:
            page = await engine.store.run(search)
            fresh += await _relabel(engine, page.matches)
            search = replace(search, after=page.next) if page.next else None
        fresh = [key for key in fresh if key not in seen]
        seen.update(fresh)
    done = [LedgerWrite(DUE, str(key), None) for key in keys]
    await engine.store.apply(ChangeSet(ledger=(*done, LedgerWrite(*RISEN, {}))))


async def epoch_before(
    engine: Engine, drafts: Sequence[Draft], above: Iterable[Sequence[Key]]
) -> int | None:
    """The epoch of ``RISEN`` before labels are looked up; None if all is made by this write and
    inherits from that alone: then nobody else can label what it inherits from. ``above``: what
    that is."""
    posted = {draft.key for draft in drafts if draft.method == "POST"}
    if len(posted) == len(drafts) and all(map(posted.issuperset, above)):
        return None
    return await risen_epoch(engine)


async def caught_up(engine: Engine, epoch: int | None, changes: Iterable[object]) -> None:
    """Labels what was written while something was labelled that it inherits from. ``epoch``: of
    ``RISEN`` before the labels of what was written were looked up, and what this write itself
    added to it."""
    if epoch is None:
        return
    below = [
        change.key
        for change in changes
        if isinstance(change, Change)
        and change.values is not None
        and parents((change.key, change.values))
    ]
    if not below or await risen_epoch(engine) == epoch:
        return
    current = await engine.store.current(below)
    rows = [one for one in current if one is not None and not one.deleted]
    if fresh := await _relabel(engine, rows):
        await propagate(engine, fresh)


def _below(type_: str, keys: Iterable[Key]) -> Scan | None:
    parts: list[Predicate] = [
        ReferenceIs(param, *key) for key in keys for param in sorted(inheriting(type_))
    ]
    return Scan(type_, Any(tuple(parts))) if parts else None


async def _relabel(engine: Engine, rows: Sequence[Stored]) -> list[Key]:
    """Those of which the index did not have the labels yet."""
    fresh = [Reindexed(r.key, r.version, engine.extract(loads(r.body))) for r in rows]
    await with_inherited(engine, fresh)
    return [one.key for one in fresh if await engine.store.reindex([one])]


async def with_inherited(engine: Engine, fresh: Sequence[Reindexed]) -> list[Key]:
    """Adds the labels that each inherits to its values; those that have any then."""
    items = [(one.key, one.values) for one in fresh]
    for (_, values), more in zip(items, await inherited(engine, items), strict=True):
        if not more <= labels_of(values):
            kept = [token for token in values.tokens if token.param != LABEL]
            values.tokens = [*kept, *tokens(labels_of(values) | more)]
    return [key for key, values in items if labels_of(values)]
