"""The one write path: drafts become prepared changes and one ``store.apply``.

Look at what is current, judge, prepare, apply; if something moved meanwhile, look again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.alone import Coming, require_alone
from fhir_server.access.audit.writes import WriteRecord
from fhir_server.access.conformance.targets import Targets
from fhir_server.access.consent.codes import Code
from fhir_server.access.contents import (
    apart,
    blob_of,
    expect_whole,
    naming,
    nowhere,
    permitted,
    set_aside,
)
from fhir_server.access.denied import unseen
from fhir_server.access.drafts import Draft, Planned, Prepared, Written, at, form_of, written_of
from fhir_server.access.drafts import resource_of as resource_of
from fhir_server.access.engine import Engine, is_large
from fhir_server.access.hypothetical import refuse_hypothetical
from fhir_server.access.judging import holds
from fhir_server.access.own_words import Blind, noted_words
from fhir_server.access.parameters import TYPE as DEFINING
from fhir_server.access.parting import parting
from fhir_server.access.policy import BINARY, Policy, knows_all
from fhir_server.access.principal import Principal
from fhir_server.access.propagating import OWN_STEPS, caught_up, due, epoch_before, propagate
from fhir_server.access.raising import inherited, kept, parents, raised, rising
from fhir_server.access.references import check_references
from fhir_server.access.tying import tied, tied_later
from fhir_server.access.unmasking import completed
from fhir_server.formats.json import loads, same
from fhir_server.model.problem import (
    Forbidden,
    MethodNotAllowed,
    PreconditionFailed,
    Problem,
    Unavailable,
)
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TRUE, All, IdIn, Predicate, Scan, Search
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Change, ChangeSet, Stale
from fhir_server.store.ledger import LedgerWrite

PAUSE: Final = 32
"""After so many drafts of one write other requests get a turn."""

ATTEMPTS: Final = 64
"""How often a write looks again before it answers that the resource is contended."""


class Writing:
    """One principal's writes. ``record``: of the request. ``targets``: of what is written."""

    def __init__(
        self,
        engine: Engine,
        principal: Principal,
        policy: Policy,
        record: WriteRecord | None,
        targets: Targets,
    ) -> None:
        self._targets = targets
        self._engine = engine
        self._principal = principal
        self._policy = policy
        self._record = record
        self._new: set[Key] = set()
        self._kept: dict[Key, frozenset[Code]] = {}
        self._blind: dict[Key, Blind] = {}
        self._revision = 0

    async def run(
        self, drafts: Sequence[Draft], ledger: tuple[LedgerWrite, ...] = ()
    ) -> list[Written]:
        """Judge, prepare and apply all drafts as one change set."""
        for draft in drafts:
            self._allow(draft)
        self._new = {draft.key for draft in drafts if draft.resource is not None}
        self._revision = self._parameters()
        prepared = []
        for turn, draft in enumerate(drafts, 1):
            prepared.append(await self._prepare(draft))
            if turn % PAUSE == 0:
                await asyncio.sleep(0)
        if not self._policy.whole:
            written = [
                (d.key, d.resource, d.place, d.method != "POST")
                for d in drafts
                if d.resource is not None
            ]
            await check_references(self._engine, self._policy, written)
        prepared, epoch = await self._labelled(prepared)
        if len(drafts) > 1 and any(draft.alone is not None for draft in drafts):
            require_alone(_coming(p.draft, p.values) for p in prepared if p.values is not None)
        guards = tuple([guard for draft in drafts for guard in draft.guards])
        binary = any(draft.key.type == BINARY for draft in drafts)
        for attempt in range(ATTEMPTS):
            prepared = self._extracted(prepared)
            current = await self._current(drafts)
            plans = await self._plan(prepared, current)
            changes = tuple([change for change in plans if isinstance(change, Change)])
            if not changes and not ledger:
                return written_of(prepared, plans, ())
            changes += tuple(await tied_later(self._engine, plans, current))
            rows = await self._naming(prepared, plans) if binary else []
            risen = rising(plans, current)
            rows += due(risen)
            rows += await parting(self._engine, plans, current)
            rows += await noted_words(self._engine, self._blind)
            if self._record is not None:
                rows.append(self._record.row(changes, current, self._engine.now()))
            try:
                committed = await self._engine.store.apply(
                    ChangeSet(changes, guards, (*ledger, *rows))
                )
            except Stale as stale:
                if not stale.keys and guards:
                    raise
                await asyncio.sleep(0.001 * min(attempt, 8))
                continue
            if self._record is not None:
                self._record.committed()
            if risen:
                await propagate(self._engine, risen)
                epoch = None if epoch is None else epoch + OWN_STEPS
            await caught_up(self._engine, epoch, changes)
            return written_of(prepared, plans, committed.seqs)
        raise Unavailable("the resource is being written by others", headers={"Retry-After": "1"})

    def _allow(self, draft: Draft) -> None:
        letter = _LETTERS[draft.method]
        if not self._policy.allows(letter, draft.key.type):
            raise at(draft, Forbidden(f"not permitted: {draft.method} {draft.key.type}"))

    async def _prepare(self, draft: Draft) -> Prepared:
        if draft.resource is None:
            return Prepared(draft, None)
        large = is_large(draft.resource)
        try:
            if large:
                # One resource is judged without a pause; a thread shares the time with the loop.
                await asyncio.to_thread(self._engine.validate, draft.resource)
            else:
                self._engine.validate(draft.resource)
            if draft.method == "PUT":
                expect_whole(draft.resource)
            refuse_hypothetical(draft.resource)
            told = await self._targets.told(draft.resource)
            if draft.key.type == DEFINING and self._engine.parameters is not None:
                self._engine.parameters.check(draft.key, draft.resource)
        except Problem as problem:
            raise at(draft, problem) from None
        kept, blob = draft.resource, draft.blob
        if draft.key.type == BINARY and blob is None:
            kept, blob = await set_aside(self._engine.blobs, kept)
        whole = {**kept, "id": draft.key.id}
        extract = self._engine.extract
        values = await asyncio.to_thread(extract, whole) if large else extract(whole)
        return Prepared(draft, values, kept, blob, told)

    async def _labelled(self, prepared: list[Prepared]) -> tuple[list[Prepared], int | None]:
        """With the patients and the labels that they should bear, and ``epoch_before``."""
        prepared = await tied(self._engine, prepared)
        items = [(p.draft.key, p.values) for p in prepared if p.values is not None]
        above = [parents(item) for item in items]
        epoch = await epoch_before(self._engine, [p.draft for p in prepared], above)
        more = iter(await inherited(self._engine, items, above))
        return [
            p if p.values is None else raised(self._engine, p, next(more)) for p in prepared
        ], epoch

    def _parameters(self) -> int:
        parameters = self._engine.parameters
        return 0 if parameters is None else parameters.revision

    def _extracted(self, prepared: list[Prepared]) -> list[Prepared]:
        """With values by the parameters that are in force when they are committed."""
        revision = self._parameters()
        if revision == self._revision:
            return prepared
        self._revision = revision
        return [
            item
            if item.resource is None
            else replace(
                item, values=self._engine.extract({**item.resource, "id": item.draft.key.id})
            )
            for item in prepared
        ]

    async def _current(self, drafts: Sequence[Draft]) -> list[Stored | None]:
        """What is there now; for a new server-made id there is nothing to look up."""
        looked = [draft.key for draft in drafts if draft.method != "POST"]
        found = iter(await self._engine.store.current(looked)) if looked else iter(())
        return [None if draft.method == "POST" else next(found) for draft in drafts]

    async def _plan(
        self, prepared: Sequence[Prepared], current: Sequence[Stored | None]
    ) -> list[Planned]:
        plans: list[Planned] = []
        # Who may not know of everything is asked nothing of what is there before it is known.
        self._kept = await kept(self._engine, current) if self._policy.whole else {}
        self._blind.clear()
        for turn, (item, now) in enumerate(zip(prepared, current, strict=True), 1):
            if now is None and self._is_plain(item.draft):
                plans.append(self._build(item, None))
            else:
                plans.append(await self._change(item, now))
            if turn % PAUSE == 0:
                await asyncio.sleep(0)
        return plans

    def _is_plain(self, draft: Draft) -> bool:
        """A create of whatever the principal likes: there is nothing to judge."""
        plain = draft.method == "POST" and draft.seen is None and draft.if_match is None
        return plain and not draft.new and self._policy.sees("c", draft.key.type) == TRUE

    async def _change(self, item: Prepared, current: Stored | None) -> Planned:
        """The change that a draft makes to what is current; None if there is nothing to do."""
        try:
            return await self._judged(item, current)
        except Problem as problem:
            raise at(item.draft, problem) from None

    async def _judged(self, item: Prepared, current: Stored | None) -> Planned:
        draft = item.draft
        if draft.seen is not None and (current is None or current.version != draft.seen):
            raise Stale((draft.key,))
        knows = await self._knows(draft, current)
        if not knows and current is not None:
            recording = self._record.recording if self._record is not None else None
            unseen(recording, self._engine, self._policy, _LETTERS[draft.method], current)
        known = current if knows else None
        living, revives = known is not None and not known.deleted, draft.method == "PUT"
        if draft.if_match is not None and (
            known is None or draft.if_match != str(known.version) or not (living or revives)
        ):
            raise PreconditionFailed(f"{draft.key}: the version is not {draft.if_match}")
        if draft.new and living:
            raise PreconditionFailed(f"{draft.key} is in use")
        if draft.method == "DELETE":
            if known is None or not living:
                return None
            await self._permit(draft, known)
            return self._build(item, current)
        if draft.method != "POST":
            if living and known is not None:
                await self._permit(draft, known)
            elif not knows_all(self._policy, _LETTERS[draft.method], draft.key.type):
                # Hidden and unused ids give the same answer.
                raise MethodNotAllowed("only the server chooses ids", headers={"Allow": "GET"})
        sent, seen = item, current
        if known is not None and item.resource is not None:
            if not (known.deleted or self._policy.whole):
                item, seen, taken = await completed(self._engine, self._policy, item, known)
                if taken and sent.resource is not None:
                    self._blind[known.key] = Blind(known.version + 1, sent.resource, taken)
            if not draft.lowers:
                floor = self._kept or await kept(self._engine, (known,))
                masked, more = sent is not item, floor.get(known.key, frozenset())
                item = raised(self._engine, item, more)
                sent = raised(self._engine, sent, more) if masked else item
        await self._permit_result(item)
        change = self._build(item, current)
        # Who sees a part writes what that part is compared with: that nothing else is changed by
        # it is no news of what is hidden.
        alike = seen is not current or _is_as_long(change, seen)
        if seen is not None and alike and await self._changes_nothing(sent, change, seen):
            return current
        return change

    async def _changes_nothing(self, item: Prepared, change: Change, current: Stored) -> bool:
        """Is the stored form that of the current version, but for its number and time?"""
        if current.deleted or item.resource is None:
            return False
        if not same(
            form_of(item.resource, change.key, current.version, current.updated), current.body
        ):
            return False
        if change.key.type != BINARY:
            return True
        kept = await blob_of(self._engine.store.ledger, change.key, current.version)
        return item.blob == kept or (change.method == "PATCH" and item.blob is None)

    async def _knows(self, draft: Draft, current: Stored | None) -> bool:
        """May the principal know that this resource is there? Who may change it may. The store is
        asked the same if it is not (L53)."""
        key, letter, policy = draft.key, _LETTERS[draft.method], self._policy
        if letter == "c" or knows_all(policy, letter, key.type):
            return current is not None
        living = current is not None and not current.deleted
        if apart(policy, "r", key.type):
            if current is None or not living:
                return await nowhere(self._engine, policy)
            return await permitted(self._engine, policy, "r", loads(current.body))
        found = await self._found(key, policy.sees("r", key.type)) or await self._found(
            key, policy.sees(letter, key.type)
        )
        return living and found

    async def _permit(self, draft: Draft, known: Stored) -> None:
        """The stored version must be one that the principal may change."""
        letter = _LETTERS[draft.method]
        if apart(self._policy, letter, known.key.type):
            may = await permitted(self._engine, self._policy, letter, loads(known.body))
        else:
            may = await self._found(known.key, self._policy.sees(letter, known.key.type))
        if not may:
            raise Forbidden(f"not permitted: {draft.method} {draft.key.type}")

    async def _permit_result(self, item: Prepared) -> None:
        """The new version must be one that the principal may write."""
        letter = _LETTERS[item.draft.method]
        needed = self._policy.sees(letter, item.draft.key.type)
        if needed == TRUE:
            return
        assert item.values is not None and item.resource is not None
        if apart(self._policy, letter, item.draft.key.type):
            may = await permitted(self._engine, self._policy, letter, item.resource, self._new)
        else:
            whole = {**item.resource, "id": item.draft.key.id}
            may = holds(self._engine, needed, whole, self._engine.now(), item.values)
        if not may:
            raise Forbidden(f"not permitted: {item.draft.method} {item.draft.key.type}")

    async def _found(self, key: Key, predicate: Predicate) -> bool:
        if predicate == TRUE:
            return True
        scan = Scan(key.type, All((IdIn((key.id,)), predicate)))
        page = await self._engine.store.run(Search((scan,), count=1, total="none"))
        return bool(page.matches)

    def _build(self, item: Prepared, current: Stored | None) -> Change:
        draft = item.draft
        expect = current.version if current is not None else 0
        now = self._engine.now() // 1000 * 1000
        updated = max(now, current.updated + 1000) if current is not None else now
        body = b""
        if item.resource is not None:
            body = form_of(item.resource, draft.key, expect + 1, updated)
        return Change(
            key=draft.key,
            version=expect + 1,
            updated=updated,
            body=body,
            values=item.values,
            method=draft.method,
            expect=expect,
        )

    async def _naming(
        self, items: Sequence[Prepared], plans: Sequence[Planned]
    ) -> list[LedgerWrite]:
        """The ledger rows of contents in blobs; a patch of the rest keeps the content."""
        rows: list[LedgerWrite] = []
        for item, change in zip(items, plans, strict=True):
            if not isinstance(change, Change) or item.resource is None:
                continue
            if change.key.type != BINARY:
                continue
            blob = item.blob
            if blob is None and change.method == "PATCH" and "data" not in item.resource:
                blob = await blob_of(self._engine.store.ledger, change.key, change.expect)
            if blob is not None:
                rows += naming(change.key, change.version, blob)
        return rows


def _is_as_long(change: Change, current: Stored | None) -> bool:
    """Can it be the same but for the number? It is cheaper to ask than to compare."""
    if current is None:
        return False
    longer = len(str(change.version)) - len(str(current.version))
    return len(change.body) - longer == len(current.body)


def _coming(draft: Draft, values: IndexValues) -> Coming:
    return Coming(draft.key.type, draft.key.id, values, draft.alone, draft.place)


_LETTERS: Final = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}
