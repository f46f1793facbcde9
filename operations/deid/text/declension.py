"""Every form in which a Ukrainian or Russian name may stand in a text.

By the endings of the two languages, without a dictionary, and generously: a form that does not
exist does no harm, since only names that a record tells are declined. Tables: Ukrainian
Orthography 2019, §§ 65-100 (declension of nouns, of surnames and given names); Zaliznyak's types
for Russian, as far as names have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from operations.deid.text.wordlists import words

_CYRILLIC: Final = re.compile(r"[\u0400-\u04ff'’ʼ]+")
_HARD: Final = "бвгґджзклмнпрстфхцчшщ"
_VOWELS: Final = "аеєиіїоуюяёыэ"

_MASCULINE: Final = words("declension_masculine")
_SOFT: Final = words("declension_soft")
_SHORT_I: Final = words("declension_short_i")
_ADJECTIVE: Final = words("declension_adjective")
_FEMININE: Final = words("declension_feminine")
_SOFT_FEMININE: Final = words("declension_soft_feminine")
_NEUTER: Final = words("declension_neuter")

_ENDINGS: Final[tuple[tuple[str, tuple[tuple[int, list[str]], ...]], ...]] = (
    ("ий", ((2, _ADJECTIVE), (1, _SHORT_I))),
    ("ый", ((2, _ADJECTIVE),)),
    ("ой", ((2, _ADJECTIVE), (1, _SHORT_I))),
    ("ій", ((2, _ADJECTIVE), (1, _SHORT_I))),
    ("й", ((1, _SHORT_I),)),
    ("ая", ((2, _ADJECTIVE), (1, _SOFT_FEMININE))),
    ("яя", ((2, _ADJECTIVE),)),
    ("а", ((1, _FEMININE), (1, _ADJECTIVE))),
    ("я", ((1, _SOFT_FEMININE), (1, _ADJECTIVE))),
    ("о", ((1, _NEUTER),)),
    ("ь", ((1, _SOFT),)),
)
"""By the ending: how many letters to take off, and what to put on. Consonants: below."""

_FLEETING: Final = (
    (re.compile(r"(.)[оеє]([кцльнрвтх]ь?)$"), r"\1\2"),
    (re.compile(r"(.)[оеє]([кцльнрвтх]ь?)$"), r"\1ь\2"),
    (re.compile(r"і([бвгґджзклмнпрстфхцчшщ]ь?)$"), r"о\1"),
    (re.compile(r"і([бвгґджзклмнпрстфхцчшщ]ь?)$"), r"е\1"),
    (re.compile(r"ї([бвгґджзклмнпрстфхцчшщ])$"), r"є\1"),
)
"""Кравець - Кравця, Лев - Льва, Федір - Федора, Кіндрат stays."""

_SOFTENED: Final = str.maketrans("гґкх", "ззцс")
"""Ольга - Ользі, Палажка - Палажці, Солоха - Солосі."""


def fleeting(name: str) -> list[str]:
    """One form with each stem that a word ending in a consonant may have beside its own."""
    word = name.casefold()
    if word[-1] not in _HARD + "ь":
        return []
    others = {pattern.sub(other, word) for pattern, other in _FLEETING} - {word}
    return [other.removesuffix("ь") + ending for other in sorted(others) for ending in "ая"]


@lru_cache(maxsize=16384)
def forms(name: str) -> frozenset[str]:
    """The forms of one word of a name, in lower case, itself among them.

    A word that is not Cyrillic has itself and, in Latin, its plural and possessive.
    """
    word = name.casefold()
    if not _CYRILLIC.fullmatch(word):
        return frozenset((word, word + "s", word + "es")) if word.isalpha() else frozenset((word,))
    return frozenset((word, *_declined(word)))


def _declined(word: str) -> Iterator[str]:
    for ending, ways in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            for cut, endings in ways:
                yield from _with(word[:-cut], endings)
            break
    else:
        if word[-1] in _HARD:
            yield from _with(word, _MASCULINE)
            yield from _with(word, _ADJECTIVE if word.endswith(_POSSESSIVE) else [])
    if word[-1] in _HARD + "ь":
        for pattern, other in _FLEETING:
            stem = pattern.sub(other, word)
            if stem != word:
                yield from _with(stem.removesuffix("ь"), _SOFT if stem[-1] == "ь" else _MASCULINE)
                yield from _with(stem.removesuffix("ь"), _SOFT)
                yield from _with(stem, _ADJECTIVE if word.endswith(_POSSESSIVE) else [])


_POSSESSIVE: Final = ("ов", "ев", "єв", "ёв", "ин", "ін", "їн", "ын", "ів", "їв")
"""Surnames that have endings of adjectives beside those of nouns."""


def _with(stem: str, endings: list[str]) -> Iterator[str]:
    yield stem
    for ending in endings:
        yield stem + ending
        if ending[:1] in "іе" and stem[-1:] in "гґкх":
            yield stem[:-1] + stem[-1].translate(_SOFTENED) + ending


_LETTERS: Final = (
    ("shch", "щ"), ("zgh", "зг"), ("zh", "ж"), ("kh", "х"), ("ts", "ц"), ("ch", "ч"), ("sh", "ш"),
    ("ii", "ій"), ("yi", "ий"), ("yy", "ий"), ("iy", "ій"), ("ya", "я"), ("ia", "я"), ("yu", "ю"),
    ("iu", "ю"), ("ye", "є"), ("ie", "є"), ("a", "а"), ("b", "б"), ("c", "к"), ("d", "д"),
    ("e", "е"),
    ("f", "ф"), ("g", "г"), ("h", "г"), ("i", "і"), ("j", "й"), ("k", "к"), ("l", "л"), ("m", "м"),
    ("n", "н"), ("o", "о"), ("p", "п"), ("r", "р"), ("s", "с"), ("t", "т"), ("u", "у"), ("v", "в"),
    ("w", "в"), ("x", "кс"), ("y", "и"), ("z", "з"),
)  # fmt: skip


def cyrillic(name: str) -> str:
    """A Latin name in Cyrillic letters, near enough to be declined and compared by sound."""
    word = name.casefold()
    if not word.isascii():
        return word
    for latin, letter in _LETTERS:
        word = word.replace(latin, letter)
    return word
