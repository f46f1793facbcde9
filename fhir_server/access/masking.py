"""Masks: what a visible resource says of resources that are hidden from its reader.

A reference to something hidden goes, with its display and identifier; what cannot be without it
(a member of a Group, an entry of a List, a section of a Composition) goes as well. Where anything
goes, the narrative does too, for it may tell the same in words. What is left is what a reader
would find in a world that never held the hidden things.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from fhir_server.access.contents import permitted
from fhir_server.access.engine import Engine
from fhir_server.access.judging import holds
from fhir_server.access.own_words import UNTRUE, beside, own_words
from fhir_server.access.policy import BINARY, Policy
from fhir_server.access.roles import AUDIT
from fhir_server.access.versions import tombstone
from fhir_server.definitions.registry import Definitions
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import TRUE, All, IdIn, Not, Scan, Search

MASKED: Final = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "masked",
        }
    ]
}
"""In the place of what a resource must have. https://hl7.org/fhir/R4/extension-data-absent-reason"""

_NAMES: Final = re.compile(rb"([A-Z][A-Za-z]{2,40})/([A-Za-z0-9\-.]{1,64})")
WHOLE: Final = frozenset({"Composition.section"})
"""What tells in words what it lists: where anything in it is hidden, only the rest of the list is
left, and nothing if there is none."""
_LISTING: Final = frozenset({"id", "entry", "section", "mode", "orderedBy"})
_CARRIERS: Final = frozenset({"Bundle.entry"})
"""What carries a resource goes with it."""
_WORDS: Final = frozenset({"string", "markdown", "code", "id", "base64Binary"})
"""Types that refer to nothing (``Reference.reference`` is looked at with its object)."""
NAME: Final = re.compile(
    r"(?:^|(?<=[/ ]))(?=([A-Z][A-Za-z]{2,40})/([A-Za-z0-9\-.]{1,64})(?![A-Za-z0-9\-.]))"
)
"""Before each name of a resource in a reference or URL, whichever server it means."""


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
        if row.deleted or not (hidden or b'"contained":[' in row.body):
            return row, frozenset()
        resource = loads(row.body)
        stripped, taken = self._stripped(resource, row.updated, hidden)
        if stripped is resource:
            return row, frozenset()
        return row._replace(body=dumps(stripped)), taken

    def _stripped(
        self, resource: Json, updated: int, hidden: Collection[Key]
    ) -> tuple[Json, frozenset[str]]:
        """The resource itself if nothing goes. What it says in words alone does not go, so that
        its author cannot tell by it whether there is what it names."""
        copies = self._copies(resource, updated)
        if not hidden and not copies:
            return resource, frozenset()
        names = [*map(str, hidden), *copies]
        gone = re.compile(rf"(?:^|[/ ])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9\-.])")
        taken = set(copies)

        def goes(text: str) -> bool:
            found = gone.findall(text)
            taken.update(found)
            return bool(found)

        strip = Strip(self._engine.definitions, goes)
        left = strip.resource(resource, {name.removeprefix("#") for name in copies})
        return left, frozenset(taken)

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


class Strip:
    """Takes out of a resource what ``gone`` says of a reference or URL.

    A string is no reference: whoever wrote it could tell by its going that what it names is there.
    """

    def __init__(self, definitions: Definitions, gone: Callable[[str], bool]) -> None:
        self._definitions = definitions
        self._gone = gone
        self._touched = False
        self._within: set[int] = set()

    def resource(self, resource: Json, copies: Collection[str]) -> Json:
        """``copies``: ids of contained resources that go."""
        whole = resource
        if copies:
            kept = [c for c in resource["contained"] if c.get("id", "") not in copies]
            whole = {**resource, "contained": kept}
            self._touched = True
        found = self._members(whole, whole["resourceType"], root=True)
        if found is None:
            found = {name: whole[name] for name in ("resourceType", "id", "meta") if name in whole}
        if not self._touched:
            return resource
        found.pop("text", None)
        if not found.get("contained", True):
            del found["contained"]
        for path in UNTRUE:
            type_, _, name = path.partition(".")
            if type_ == resource["resourceType"]:
                found.pop(name, None)
        return found

    def _members(self, node: Json, path: str, *, root: bool = False) -> Json | None:
        """What is left of an object; None: it cannot be without what goes."""
        known = self._definitions.members(path)
        found: Json = {}
        self._within.update(map(id, node.get("contained", ())))
        for name, child in node.items():
            if name in ("meta", "text") and root:
                found[name] = child
                continue
            element, type_ = known.get(name, (None, None))
            below = ""
            if element is not None and type_ is not None:
                below = path_below(element.path, element.content_reference, type_.code)
            if below in _WORDS or name == "system" or (name == "url" and path == "Extension"):
                found[name] = child
                continue
            left = self._value(child, below)
            if left is child or left is not None:
                found[name] = left
            elif element is not None and element.min:
                if not root:
                    return None
                found[name] = [MASKED] if type(child) is list else MASKED
        return found

    def _value(self, child: Any, path: str) -> Any:
        kind = type(child)
        if kind is str:
            if not self._gone(child):
                return child
            self._touched = True
            return None
        if kind is list:
            kept = [left for item in child if (left := self._value(item, path)) is not None]
            same = len(kept) == len(child) and all(map(_same, kept, child))
            return child if same else kept or None
        return self._object(child, path) if kind is dict else child

    def _object(self, node: Json, path: str) -> Json | None:
        names = [node.get("reference"), node.get("url") if path != "Extension" else None]
        if "resourceType" in node and path in ("", "Resource"):
            path = node["resourceType"]
            if id(node) not in self._within:
                names.append(f"{path}/{node.get('id')}")
        if any(type(name) is str and self._gone(name) for name in names):
            self._touched = True
            return None
        before, self._touched = self._touched, False
        found = self._members(node, path) if path else self._loose(node)
        touched, self._touched = self._touched, self._touched or before
        if not touched:
            return node
        if not found or (path in _CARRIERS and len(found) < len(node)):
            return None
        if path == "Extension" and found.keys() <= {"id", "url"}:
            return None
        return _wordless(found) if path in WHOLE else found

    def _loose(self, node: Json) -> Json | None:
        """Of what the definitions do not know, an object without the members that go."""
        pairs = {name: self._value(child, "") for name, child in node.items()}
        return {name: left for name, left in pairs.items() if left is not None}


def _wordless(section: Json) -> Json | None:
    """What is left of a section without title, code and text; None if it lists nothing more."""
    kept = {name: child for name, child in section.items() if name in _LISTING}
    return kept if kept.keys() & {"entry", "section"} else None


def _same(one: Any, other: Any) -> bool:
    return one is other


def path_below(path: str, shared: str | None, type_: str) -> str:
    """Where the definitions describe the members of an element."""
    if shared is not None:
        return shared
    return path if type_ in ("BackboneElement", "Element") else type_
