"""What is deleted keeps the labels that only the index had.

What inherits a label that came later than itself bears it in the index alone, and an index has no
deletions. So a deletion writes down, in its own commit, what the body before it does not say.
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.access.consent.codes import Code
from fhir_server.access.contents import apart, permitted
from fhir_server.access.engine import Engine
from fhir_server.access.judging import holds
from fhir_server.access.labels import LABEL, tokens
from fhir_server.access.policy import Policy
from fhir_server.access.raising import PARTED, inherited, labels_of
from fhir_server.formats.json import loads
from fhir_server.model.resource import Stored
from fhir_server.search.plan import TRUE, Predicate
from fhir_server.store.base import Change
from fhir_server.store.ledger import LedgerWrite


async def parting(
    engine: Engine, plans: Iterable[object], current: Iterable[Stored | None]
) -> list[LedgerWrite]:
    """The rows that go with a commit which deletes these."""
    gone = [
        now
        for change, now in zip(plans, current, strict=True)
        if isinstance(change, Change) and change.values is None and now is not None and now.body
    ]
    items = [(now.key, engine.extract(loads(now.body))) for now in gone]
    more = iter(await inherited(engine, items) if items else ())
    rows = []
    for key, values in items:
        lacking = next(more) - labels_of(values)
        if lacking:
            told = {"labels": [[*label] for label in sorted(lacking)]}
            rows.append(LedgerWrite(PARTED, str(key), told))
    return rows


async def was_seen(
    engine: Engine,
    policy: Policy,
    letter: str,
    before: Stored,
    more: frozenset[Code],
) -> bool:
    """Does the policy show what was deleted, as it was last? ``more``: ``labels_parted``."""
    if apart(policy, letter, before.key.type):
        return await permitted(engine, policy, letter, loads(before.body))
    return was(engine, policy.sees(letter, before.key.type), before, more)


def was(engine: Engine, predicate: Predicate, before: Stored, more: frozenset[Code]) -> bool:
    """Does a predicate without joins hold for a version that was deleted?"""
    if predicate == TRUE:
        return True
    resource = loads(before.body)
    values = engine.extract(resource)
    if not more <= labels_of(values):
        kept = [token for token in values.tokens if token.param != LABEL]
        values.tokens = [*kept, *tokens(labels_of(values) | more)]
    return holds(engine, predicate, resource, before.updated, values)
