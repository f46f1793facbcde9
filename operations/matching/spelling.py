"""How a name sounds, whichever script and transliteration it is written in.

A *sound* is a string of consonant and vowel letters that all usual spellings of a name share:
Щеглова, Shcheglova and Ščeglova; Юлия, Iuliia, Yuliya and Julia. A *skeleton* is what is left
of it without vowels, for looking names up. Letters that look alike in the two scripts (Latin a
in a Cyrillic word) are read in the script of the word.

The table ``spelling.json`` is compiled from published transliteration schemas
(``scripts/compile_spelling.py``): the resolution 55/2010 of the Cabinet of Ministers of
Ukraine, ICAO Doc 9303, GOST, BGN/PCGN, ALA-LC and others.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Final

_TABLE: Final = json.loads(files(__package__).joinpath("spelling.json").read_text("utf-8"))
_CYRILLIC: Final[dict[str, str]] = _TABLE["cyrillic"]
_LATIN: Final[dict[str, str]] = _TABLE["latin"]
_LONGEST: Final = max(map(len, _LATIN))

# Letters that look alike: https://www.unicode.org/reports/tr39/#Confusable_Detection
_TWINS: Final = dict(zip("aceiopxyïsj0", "асеіорхуїѕјо", strict=True))
_CAPITAL_TWINS: Final = _TWINS | dict(zip("bhkmt3", "внкмтз", strict=True))
_BACK: Final = {cyrillic: latin for latin, cyrillic in _TWINS.items() if latin.isalpha()}
_BACK_CAPITAL: Final = {c: latin for latin, c in _CAPITAL_TWINS.items() if latin.isalpha()}

_BREAKS: Final = re.compile(r"[\s\-\u2010-\u2015,.;/()]+")
_SILENT: Final = re.compile(r"['`\"\u02b9\u02ba\u02bc\u2018\u2019\u201d]")
_MIXED: Final = re.compile(r"[a-z].*[\u0400-\u04ff]|[\u0400-\u04ff].*[a-z]")
_VOWELS: Final = frozenset("aeiou")
CONSONANTS: Final = "bcCdhklmnprsStvzZ"
"""The letters of skeletons, without A (a vowel at the beginning) and with f as v."""


def words(text: str) -> list[str]:
    """The parts of a name."""
    return [word for word in _BREAKS.split(text) if word]


@lru_cache(maxsize=65536)
def sounds(word: str) -> tuple[str, ...]:
    """How a word may be read; more than one reading where its script is in doubt."""
    found = dict.fromkeys(_sound(reading) for reading in _readings(_SILENT.sub("", word[:64])))
    return tuple(sound for sound in found if sound)


@lru_cache(maxsize=65536)
def skeleton(sound: str) -> str:
    """The consonants, at most eight; a vowel at the beginning is A."""
    first = "A" if sound[:1] in _VOWELS else ""
    return (first + "".join(c for c in sound if c not in _VOWELS).replace("f", "v"))[:8]


def _readings(word: str) -> Iterator[str]:
    """The word in one script. Both readings if every letter of it is in both scripts."""
    capital = word.isupper() and len(word) > 1
    forth, back = (_CAPITAL_TWINS, _BACK_CAPITAL) if capital else (_TWINS, _BACK)
    text = unicodedata.normalize("NFC", word.casefold())
    cyrillic = sum("\u0400" <= c <= "\u04ff" for c in text)
    latin = sum("a" <= c <= "z" for c in text)
    as_cyrillic = "".join(forth.get(c, c) for c in text)
    as_latin = "".join(back.get(c, c) for c in text)
    if not cyrillic:
        yield text
        if all(c in forth for c in text):
            yield as_cyrillic
    elif not latin:
        yield as_cyrillic if text.strip("03") else text
        if all(c in back for c in text):
            yield as_latin
    else:
        whole = {text: not _MIXED.search(text) for text in (as_cyrillic, as_latin)}
        yield from (text for text, one in whole.items() if one or not any(whole.values()))


def _sound(text: str) -> str:
    out, at = "", 0
    while at < len(text):
        for size in range(min(_LONGEST, len(text) - at), 0, -1):
            form = text[at : at + size]
            sound = _LATIN.get(form, _CYRILLIC.get(form))
            if sound is not None:
                out, at = out + sound, at + size
                break
        else:
            plain = unicodedata.normalize("NFKD", text[at])[0]
            out, at = out + _LATIN.get(plain, _CYRILLIC.get(plain, _other(plain))), at + 1
    return _smooth(out)


def _other(letter: str) -> str:
    """Letters of other scripts stand for themselves; signs are silent."""
    return letter if letter.isalpha() else ""


_SAME: Final = (("ts", "c"), ("SC", "S"), ("sC", "S"), ("kh", "h"))


def _smooth(sound: str) -> str:
    """Where spellings of one sound still differ: ts, shch; i before a vowel; doubled letters."""
    for written, heard in _SAME:
        sound = sound.replace(written, heard)
    out = ""
    for letter, following in zip(sound, sound[1:] + " ", strict=False):
        if letter == "i" and following in _VOWELS:
            continue
        if letter != out[-1:]:
            out += letter
    return out
