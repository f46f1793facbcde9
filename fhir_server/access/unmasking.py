"""What a reader of a masked resource writes is put back into the whole one.

A PUT or PATCH is made from what its author could see; what was masked for them is kept from the
stored version. Where the author says something else in its place, that stands. What comes of it
looks to its author as if nothing had been hidden: where it could not, in one place, what is hidden
is put beside what the author says, and what cannot be there without more is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from fhir_server.access.aligning import partners
from fhir_server.access.drafts import Prepared
from fhir_server.access.engine import Engine
from fhir_server.access.labels import own_labels
from fhir_server.access.masking import Masking, Parted
from fhir_server.access.policy import Policy
from fhir_server.access.stripping import MASKED, NOTHING, Pair, Strip, pair_of, unzipped, zipped
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden
from fhir_server.model.resource import Stored


async def completed(
    engine: Engine, policy: Policy, item: Prepared, known: Stored
) -> tuple[Prepared, Stored, frozenset[str]]:
    """A new version of ``known`` by somebody from whom parts may be hidden; ``known`` as its
    author sees it; and what a mask took out of that.

    Forbidden if it takes labels away, or makes the resource one about other patients.
    """
    assert item.resource is not None and item.values is not None
    part = await Masking(engine, policy).parted(known)
    whole = loads(known.body) if part is None else part.whole
    said = own_labels(item.resource)
    if "security" in item.resource.get("meta", ()) and not own_labels(whole) <= said:
        raise Forbidden("not permitted: take security labels away")
    masked = whole if part is None else part.left
    if set(engine.extract(masked).patients) != set(item.values.patients):
        raise Forbidden("not permitted: change whom the resource is about")
    if part is None:
        return item, known, frozenset()
    part = apart(item.resource, part)
    resource = unmasked(item.resource, part)
    values = engine.extract({**resource, "id": item.draft.key.id})
    seen = known._replace(body=dumps(masked))
    return replace(item, resource=resource, values=values), seen, part.taken


def unmasked(new: Json, part: Parted) -> Json:
    """``new``, which was made of what is left of a resource, with what a mask took of that."""
    whole = part.whole
    return _Rejoined(part.mask).members(new, whole, part.left, whole["resourceType"], AT_ROOT)


AT_ROOT: Final = frozenset({"resourceType", "id", "meta"})
"""Not looked at by masks."""


class _Rejoined:
    """What was parted by one mask."""

    def __init__(self, mask: Strip) -> None:
        self._mask = mask
        self._replaced = False
        """Has its author said something else in the place of something hidden?"""

    def members(
        self, new: Json, whole: Json, seen: Json, path: str, besides: frozenset[str] = frozenset()
    ) -> Json:
        """``new`` with the parts of ``whole`` that are not in ``seen``."""
        found = dict(new)
        for name in _names(whole):
            was, now, said = pair_of(whole, name), pair_of(seen, name), pair_of(new, name)
            if name in besides or was == now:
                continue
            if said == NOTHING and self._says_otherwise(new, path, name):
                self._replaced = True
                continue
            _set(found, name, self._element(said, was, now, path, name))
        return found

    def _says_otherwise(self, new: Json, path: str, name: str) -> bool:
        """Is there another type of the same choice?"""
        known = self._mask.known(path)
        if name not in known or not known[name][0].path.endswith("[x]"):
            return False
        choice = known[name][0].path
        return any(other in known and known[other][0].path == choice for other in _names(new))

    def _element(self, said: Pair, was: Pair, now: Pair, path: str, name: str) -> Pair:
        if list in map(type, was):
            return self._items(said, was, now, path, name)
        if now == NOTHING:
            self._replaced |= said != NOTHING
            return was if said == NOTHING else said
        if MASKED in now:
            return was if MASKED in said else said
        if said == NOTHING:
            return self._rest(was, now, path, name) or NOTHING
        joined = self._item(said, was, now, path, name)
        self._replaced |= joined is None
        return joined or said

    def _items(self, said: Pair, was: Pair, now: Pair, path: str, name: str) -> Pair:
        """Hidden items come after what they came after."""
        stored, written = zipped(was), zipped(said)
        if list in map(type, now) and all(MASKED in item for item in zipped(now)):
            written = [item for item in written if MASKED not in item]
        lefts = [self._mask.item(item, path, name) for item in stored]
        shown = [(n, left) for n, left in enumerate(lefts) if left is not None]
        held = [left is not stored[n] for n, left in shown]
        pairs = partners([_plain(left) for _, left in shown], list(map(_plain, written)), held)
        places = {n: pairs[k] for k, (n, _) in enumerate(shown) if k in pairs}
        after: dict[int, list[Pair]] = {}
        at = -1
        for number, (item, left) in enumerate(zip(stored, lefts, strict=True)):
            at = places.get(number, at)
            if left is None:
                kept: Pair | None = item
            elif left is item:
                continue
            else:
                place = places.get(number)
                said_of = None if place is None else written[place]
                joined, kept = self._parts(said_of, item, left, path, name)
                if place is not None:
                    written[place] = joined
            if kept is not None:
                after.setdefault(at, []).append(kept)
        found = after.get(-1, [])
        for number, item in enumerate(written):
            found += [item, *after.get(number, ())]
        return unzipped(found)

    def _parts(
        self, said: Pair | None, was: Pair, now: Pair, path: str, name: str
    ) -> tuple[Pair, Pair | None]:
        """Of an item that was seen in part: what becomes of what its author says in its place
        (None: it is removed), and what is kept beside that, lest it be lost."""
        before, self._replaced = self._replaced, False
        joined = None if said is None else self._item(said, was, now, path, name)
        kept = None
        if joined is None or self._replaced:
            kept = self._rest(was, now, path, name)
            if kept is not None:
                self._replaced = False
                joined = said
        self._replaced |= before
        return joined or said or NOTHING, kept

    def _item(self, said: Pair, was: Pair, now: Pair, path: str, name: str) -> Pair | None:
        """What the author says of an element that was seen in part, with the rest of it; None if
        its author could then not see what they said."""
        below, _ = self._mask.below(path, name)
        found = (
            self._joined(said[0], was[0], now[0], below),
            self._joined(said[1], was[1], now[1], "Element"),
        )
        return found if self._mask.item(found, path, name) == said else None

    def _joined(self, said: Any, was: Any, now: Any, path: str) -> Any:
        """The same of one side of an element."""
        if was == now or (said is not None and type(said) is not type(was)):
            return said
        if said is None and now is None:
            return was
        if type(was) is not dict or said is None:
            return said
        if path in ("", "Resource"):
            path = was.get("resourceType", "")
            if said.get("resourceType", "") != path:
                return said
        return self.members(said, was, now or {}, path)

    def _rest(self, was: Pair, now: Pair, path: str, name: str) -> Pair | None:
        """What is hidden of an element that its author removed; None if that cannot be without
        what they saw of it. A value of a datatype is one statement: it goes as a whole."""
        below, _ = self._mask.below(path, name)
        if type(was[0]) is not dict or not ("." in below or below == "Extension"):
            return None
        kept = self._kept(was[0], now[0] or {}, below), None
        return kept if kept[0] and self._mask.item(kept, path, name) is None else None

    def _kept(self, was: Json, now: Json, path: str) -> Json | None:
        found: Json = {}
        known = self._mask.known(path)
        for name in _names(was):
            one, other = pair_of(was, name), pair_of(now, name)
            if other == NOTHING or (name == "url" and path == "Extension"):
                rest = one
            elif one == other:
                rest = NOTHING
            elif list in map(type, one):
                rest = self._items(NOTHING, one, other, path, name)
            else:
                rest = self._rest(one, other, path, name) or NOTHING
            if rest == NOTHING and name in known and known[name][0].min:
                return None
            _set(found, name, rest)
        return found


def apart(new: Json, part: Parted) -> Parted:
    """The same where hidden contained resources have other ids than those that the author, who
    could not know, has given to others."""
    ids = {copy.get("id", "") for copy in new.get("contained", ())}
    clashing = sorted(ids & part.mask.copies)
    if not clashing:
        return part
    used = ids | {copy.get("id", "") for copy in part.whole["contained"]}
    free = (f"copy-{number}" for number in range(1, len(used) + len(clashing) + 1))
    fresh = [id_ for id_ in free if id_ not in used][: len(clashing)]
    renamed = dict(zip(clashing, fresh, strict=True))
    names = {f"#{old}": f"#{id_}" for old, id_ in renamed.items()}
    whole = _renamed(part.whole, names)
    whole["contained"] = [
        {**copy, "id": renamed[copy["id"]]} if copy.get("id") in renamed else copy
        for copy in whole["contained"]
    ]
    taken = frozenset(names.get(name, name) for name in part.taken)
    return Parted(whole, part.left, taken, part.mask.renamed(renamed))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if type(value) is dict:
        return {name: _renamed(child, names) for name, child in value.items()}
    if type(value) is list:
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if type(value) is str else value


def _names(node: Json) -> Iterable[str]:
    """Of the elements of an object."""
    return dict.fromkeys(name.removeprefix("_") for name in node)


def _set(node: Json, name: str, pair: Pair) -> None:
    for said, value in zip((name, f"_{name}"), pair, strict=True):
        if value is None:
            node.pop(said, None)
        else:
            node[said] = value


def _plain(pair: Pair) -> Any:
    return pair[0] if pair[1] is None else pair
