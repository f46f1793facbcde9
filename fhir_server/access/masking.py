"""Masks: what a visible resource says of resources that are hidden from its reader.

A reference to something hidden goes, with its display and identifier; what cannot be without it
(a member of a Group, an entry of a List, a section of a Composition) goes as well. Where anything
goes, the narrative does too, for it may tell the same in words. What is left is what a reader
would find in a world that never held the hidden things.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from fhir_server.access.contents import permitted
from fhir_server.access.engine import Engine
from fhir_server.access.judging import holds
from fhir_server.access.own_words import beside, own_words
from fhir_server.access.policy import BINARY, Policy
from fhir_server.access.roles import AUDIT
from fhir_server.access.stripping import Strip
from fhir_server.access.versions import tombstone
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TRUE, All, IdIn, Not, Scan, Search

_NAMES: Final = re.compile(rb"([A-Z][A-Za-z]{2,40})/([A-Za-z0-9\-.]{1,64})")
NAME: Final = re.compile(
    r"(?:^|(?<=[/ ]))(?=([A-Z][A-Za-z]{2,40})/([A-Za-z0-9\-.]{1,64})(?![A-Za-z0-9\-.]))"
)
"""Before each name of a resource in a reference or URL, whichever server it means."""


class Parted(NamedTuple):
    """A resource of which a mask takes something: what is ``left`` of it, and what is ``taken``,
    as ``Masking.taken`` has it."""

    whole: Json
    left: Json
    taken: frozenset[str]
    mask: Strip


class Masking:
    """Of one policy."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy

    async def masked(self, rows: Sequence[Stored]) -> list[Stored]:
        """The same rows; rebuilt where something in them is hidden."""
        return [left for left, _ in await self.taken(rows)]

    async def taken(self, rows: Sequence[Stored]) -> list[tuple[Stored, frozenset[str]]]:
        """What is left of each row, and what a mask takes out: names, and ``#id`` of contained
        copies."""
        if self._policy.whole or not rows:
            return [(row, frozenset()) for row in rows]
        gone = await self._hidden_in(rows)
        made = [self._row(row, hidden) for row, hidden in zip(rows, gone, strict=True)]
        touched = [n for n, (_, taken) in enumerate(made) if taken]
        known = await own_words(self._engine, [rows[n].key for n in touched])
        for n, said in zip(touched, known, strict=True):
            left, taken = made[n]
            if said:
                whole = loads(rows[n].body)
                shown = beside(loads(left.body), whole, left.version, said, taken)
                made[n] = left._replace(body=dumps(shown)), taken
        return made

    async def parted(self, row: Stored) -> Parted | None:
        """The same of one row, for who writes over it; None if nothing is hidden in it."""
        if self._policy.whole:
            return None
        [hidden] = await self._hidden_in([row])
        part = self._parted(row, hidden)
        if part is None:
            return None
        [said] = await own_words(self._engine, [row.key])
        return part._replace(left=beside(part.left, part.whole, row.version, said, part.taken))

    async def _hidden_in(self, rows: Sequence[Stored]) -> list[frozenset[Key]]:
        """What each of these may name of what is hidden."""
        said = [self._said(row) for row in rows]
        named = {name: key for name in set().union(*said) if (key := self._key(*name)) is not None}
        shown = {row.key for row in rows if not row.deleted}
        hidden = await self.hidden({key for key in named.values() if key not in shown})
        return [
            hidden.intersection(named[n] for n in names if n in named) - {row.key}
            for row, names in zip(rows, said, strict=True)
        ]

    def _said(self, row: Stored) -> set[tuple[bytes, bytes]]:
        """What the body may name."""
        if row.key.type == AUDIT and self._policy.audits:
            return set()
        return set(_NAMES.findall(row.body))

    def _key(self, type_: bytes, id_: bytes) -> Key | None:
        """Of a type of which something may be hidden."""
        name = type_.decode()
        return Key(name, id_.decode()) if self.may_hide(name) else None

    def may_hide(self, type_: str) -> bool:
        """Is there, or may there be, something of the type that is hidden?"""
        return (
            type_ in self._engine.definitions.resource_types and self._policy.exists(type_) != TRUE
        )

    async def hidden(self, keys: Collection[Key]) -> frozenset[Key]:
        """Those that are or were stored and that this principal may not know of."""
        by: dict[str, list[str]] = {}
        for key in keys:
            by.setdefault(key.type, []).append(key.id)
        binaries = by.pop(BINARY, ())
        scans = tuple(
            Scan(type_, All((IdIn(tuple(sorted(ids))), Not(self._policy.exists(type_)))))
            for type_, ids in sorted(by.items())
        )
        found = await self._binaries(binaries)
        if scans:
            page = await self._engine.store.run(Search(scans, count=len(keys), total="none"))
            found |= {match.key for match in page.matches}
        return frozenset(found | await self._deleted(sorted(set(keys) - found)))

    async def _deleted(self, keys: Sequence[Key]) -> set[Key]:
        """Those that were hidden when they were deleted."""
        current = await self._engine.store.current(keys) if keys else ()
        return {
            key
            for key, stored in zip(keys, current, strict=True)
            if stored is not None
            and stored.deleted
            and await tombstone(self._engine, self._policy, "r", key) is None
        }

    async def _binaries(self, ids: Iterable[str]) -> set[Key]:
        """A Binary is judged by what its securityContext names."""
        keys = [Key(BINARY, id_) for id_ in ids]
        found = set()
        for key, stored in zip(keys, await self._engine.store.current(keys), strict=True):
            if stored is None or stored.deleted:
                continue
            if not await permitted(self._engine, self._policy, "r", loads(stored.body)):
                found.add(key)
        return found

    def _row(self, row: Stored, hidden: Collection[Key]) -> tuple[Stored, frozenset[str]]:
        """What is left of it, and what goes."""
        part = self._parted(row, hidden)
        if part is None:
            return row, frozenset()
        return row._replace(body=dumps(part.left)), part.taken

    def _parted(self, row: Stored, hidden: Collection[Key]) -> Parted | None:
        """None if nothing goes. What it says in words alone does not go, so that its author cannot
        tell by it whether there is what it names."""
        if row.deleted or not (hidden or b'"contained":[' in row.body):
            return None
        resource = loads(row.body)
        copies = self._copies(resource, row.updated)
        if not hidden and not copies:
            return None
        names = [*map(str, hidden), *copies]
        gone = re.compile(rf"(?:^|[/ ])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9\-.])")
        taken = set(copies)

        def goes(text: str) -> bool:
            found = gone.findall(text)
            taken.update(found)
            return bool(found)

        definitions = self._engine.definitions
        mask = Strip(definitions, goes, {name.removeprefix("#") for name in copies})
        left = mask.resource(resource)
        if left is resource:
            return None
        return Parted(resource, left, frozenset(taken), mask)

    def _copies(self, resource: Json, updated: int) -> list[str]:
        """``#id`` of the contained resources that would be hidden if they were not contained."""
        if "contained" not in resource:
            return []
        found = []
        values = self._engine.extract(resource).contained
        for inner, held in zip(resource["contained"], values, strict=True):
            rule = self._policy.inside(held.type)
            if rule != TRUE and not holds(self._engine, rule, inner, updated, held.values):
                found.append(f"#{held.id}")
        return found
