"""Lists of given names, surnames, places and everyday words, by hash.

A list is a Bloom filter of stems: a word that is in the list is always found, one in two hundred
others by mistake. ``scripts/train_tagger.py`` tells where the words come from.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

LISTS: Final = ("given", "surname", "place", "common")
HASHES: Final = 7

_ENDING: Final = re.compile(
    r"(?:['’]s|ові|еві|єві|ого|ього|ому|ьому|ими|іми|ями|ами|ою|ею|єю|йою|ої|ей|ий|ій|ый|ой|им|ім|ым|их|іх|ых|"
    r"ом|ем|єм|ём|ам|ям|ах|ях|ую|юю|ая|яя|ії|ию|ия|ие|ії|ію|ія|ии|[аеиіїоуюяёыэьйє])$"
)


@lru_cache(maxsize=65536)
def stem(form: str) -> str:
    """A word in lower case without the ending that cases and numbers change (at least three
    letters stay); words that are not Cyrillic lose a possessive only."""
    if len(form) < 4 or form[0] < "\u0400":
        return form[:-2] if form.endswith("'s") else form
    found = _ENDING.search(form, 3)
    return form[: found.start()] if found else form


class Bloom:
    """A set of strings in ``len(bits) * 8`` bits."""

    def __init__(self, bits: bytes) -> None:
        self._bits = bits
        self._size = len(bits) * 8

    def __contains__(self, key: str) -> bool:
        bits, size = self._bits, self._size
        return all(bits[at >> 3] & (1 << (at & 7)) for at in places(key, size))


def places(key: str, size: int) -> list[int]:
    """The bits of a key (Kirsch and Mitzenmacher: two hashes make all)."""
    digest = blake2b(key.encode(), digest_size=16).digest()
    one, two = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
    return [(one + i * two) % size for i in range(HASHES)]


class Lexicon:
    """``known`` is a number made of one bit per list."""

    def __init__(self, lists: tuple[Bloom, ...]) -> None:
        self._lists = lists
        self.known = lru_cache(maxsize=65536)(self._known)

    @classmethod
    def read(cls, folder: Path) -> Lexicon:
        """The lists of a folder, ``given.bloom`` and so on."""
        return cls(tuple(Bloom((folder / f"{name}.bloom").read_bytes()) for name in LISTS))

    def _known(self, form: str) -> int:
        key = stem(form)
        return sum(1 << at for at, names in enumerate(self._lists) if key in names)

    def lists(self, form: str) -> set[str]:
        """The names of the lists that a word is in, everyday words apart."""
        known = self.known(form)
        return {name for at, name in enumerate(LISTS[:3]) if known & (1 << at)}
