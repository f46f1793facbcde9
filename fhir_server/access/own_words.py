"""Words of an author from whom something was hidden stay readable beside what is masked.

A mask takes the narrative with whatever else it takes, for that may tell the same in words. Who
wrote it without seeing what is masked said nothing of that; and if it went, its author could tell
by its going that something is hidden. So the commit of such a version notes what its author could
not see, and readers from whom no more than that is hidden are shown these words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from fhir_server.access.engine import Engine
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key
from fhir_server.store.ledger import LedgerWrite

OWN_WORDS: Final = "own-words"
"""Rows ``Type/id``: by version, digests of its author's words, and what was hidden from them."""
UNTRUE: Final = frozenset({"Bundle.signature", "Provenance.signature", "Group.quantity"})
"""What would not be true of what is left of a resource."""
REMEMBERED: Final = 32
"""Versions of one resource."""


class Said(NamedTuple):
    """By the author of a version. ``words``: digests; ``hidden``: names, and ``#id`` of copies."""

    version: int
    words: frozenset[str]
    hidden: frozenset[str]


class Blind(NamedTuple):
    """What somebody sent to become a version, and what was hidden from them in that before."""

    version: int
    sent: Json
    hidden: frozenset[str]


def worded(resource: Json) -> dict[str, str]:
    """The elements that go wherever anything goes: name -> digest."""
    type_ = resource["resourceType"]
    names = [name for name in resource if name == "text" or f"{type_}.{name}" in UNTRUE]
    return {name: blake2b(dumps(resource[name]), digest_size=16).hexdigest() for name in names}


async def own_words(engine: Engine, keys: Sequence[Key]) -> list[list[Said]]:
    """Of each resource."""
    if not keys:
        return []
    rows = await engine.store.ledger.get_many([(OWN_WORDS, str(key)) for key in keys])
    return [
        []
        if row is None
        else [Said(v, frozenset(said), frozenset(gone)) for v, said, gone in row.value["said"]]
        for row in rows
    ]


async def noted_words(engine: Engine, written: Mapping[Key, Blind]) -> list[LedgerWrite]:
    """The rows that go with a commit."""
    made = {
        key: Said(blind.version, frozenset(words.values()), blind.hidden)
        for key, blind in written.items()
        if (words := worded(blind.sent))
    }
    rows = []
    for key, known in zip(made, await own_words(engine, [*made]), strict=True):
        said = [*(one for one in known if one.version != made[key].version), made[key]]
        told = [[one.version, sorted(one.words), sorted(one.hidden)] for one in said[-REMEMBERED:]]
        rows.append(LedgerWrite(OWN_WORDS, str(key), {"said": told}))
    return rows


def beside(
    stripped: Json, resource: Json, version: int, said: Sequence[Said], hidden: frozenset[str]
) -> Json:
    """What is left of a version, with the words that tell nothing of what is ``hidden``, where
    they were. What was there before its author said the same is not the author's."""
    own = {
        word
        for one in said
        if one.version <= version and hidden <= one.hidden
        for word in one.words
    }
    kept = {n for n, word in worded(resource).items() if n not in stripped and word in own}
    if not kept:
        return stripped
    return {
        name: resource[name] if name in kept else stripped[name]
        for name in resource
        if name in kept or name in stripped
    }
