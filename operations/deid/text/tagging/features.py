"""What the tagger knows of a token: its letters, its shape, its lists, its document.

Every feature is hashed (CRC-32) into one of ``BUCKETS`` rows of the model's table; a token is the
sum of its ``SLOTS`` rows. The same code makes the features for training and for use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

from operations.deid.text.tagging.lexicon import Lexicon, stem
from operations.deid.text.wordlists import words

BUCKETS: Final = 1 << 16
ROWS: Final = 1
"""The form of the rows, which a package names: another one takes another number."""
SLOTS: Final = 20
PADDING: Final = 4
"""Empty tokens between two texts, so that none sees the other: the model looks three tokens far."""

_TOKEN: Final = re.compile(
    r"[^\W\d_]+(?:['’ʼ‘`´\u0301]+[^\W\d_]+)*\u0301?|\d+|\n+|[^\w\s]|_", re.UNICODE
)
_APOSTROPHES: Final = str.maketrans("’ʼ‘`´", "'''''", "\u0301")
_ENDS: Final = frozenset(".!?…\n")
_OPENS: Final = frozenset("\"'«“„(-–—•*[")


class Token(NamedTuple):
    """``text[start:end]``; ``form``: in lower case and one apostrophe. ``fresh``: it begins a
    sentence, a line or a quotation, where a capital says nothing."""

    start: int
    end: int
    text: str
    form: str
    fresh: bool

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()


def tokens(text: str) -> list[Token]:
    """Words, numbers, signs and line breaks."""
    result: list[Token] = []
    fresh = True
    for match in _TOKEN.finditer(text):
        token = match[0]
        result.append(Token(*match.span(), token, token.casefold().translate(_APOSTROPHES), fresh))
        if token[0] in _ENDS:
            fresh = not (token == "." and _abbreviates(result))
        elif token[0] not in _OPENS:
            fresh = False
    return result


def _abbreviates(so_far: Sequence[Token]) -> bool:
    """Is the dot that of an initial or a short title (``Т. Шевченко``, ``Dr. Smith``)?"""
    before = so_far[-2].text if len(so_far) > 1 else ""
    return (len(before) == 1 and before.isupper()) or before.casefold() in _SHORT


_SHORT: Final = frozenset(words("features_short"))


class Evidence:
    """What a document shows of its words: seen in lower case, seen with a capital that the
    sentence does not ask for."""

    def __init__(self, document: Iterable[Token]) -> None:
        self._lower: set[str] = set()
        self._capital: set[str] = set()
        for token in document:
            if token.text[0].isalpha():
                if token.text.islower():
                    self._lower.add(stem(token.form))
                elif not token.fresh:
                    self._capital.add(stem(token.form))

    def of(self, token: Token) -> int:
        """0 to 3."""
        key = stem(token.form)
        return (key in self._lower) + 2 * (key in self._capital)


@lru_cache(maxsize=65536)
def _letters(form: str) -> tuple[int, ...]:
    """Beginnings, endings and trigrams: what does not depend on where the word stands."""
    parts = [
        "w" + form, "2" + form[:2], "3" + form[:3], "4" + form[:5],
        "a" + form[-1:], "b" + form[-2:], "c" + form[-3:], "d" + form[-4:], "e" + form[-5:],
    ]  # fmt: skip
    framed = f"<{form}>"
    grams = ["g" + framed[at : at + 4] for at in range(len(framed) - 3)][:7]
    return tuple(bucket(part) for part in (*parts, *grams))


def bucket(feature: str) -> int:
    """1 to ``BUCKETS`` - 1; 0 is nothing."""
    return 1 + crc32(feature.encode()) % (BUCKETS - 1)


_DIGIT: Final = re.compile(r"\d")


def shape(text: str) -> str:
    """``Xx``, ``X``, ``XX``, ``x``, ``xX`` or the sign itself."""
    if text[0].isdigit():
        return "9" * min(len(text), 4)
    if not text[0].isalpha():
        return "n" if text[0] == "\n" else text[0]
    if text.isupper():
        return "X" if len(text) == 1 else "XX"
    if text[0].isupper():
        return "Xx" if text[1:].islower() else "XxX"
    return "x" if text.islower() else "xX"


def features(document: Sequence[Token], lexicon: Lexicon) -> Iterator[tuple[int, ...]]:
    """``SLOTS`` buckets per token; missing ones are 0."""
    evidence = Evidence(document)
    for token in document:
        if not token.text[0].isalpha():
            found: tuple[int, ...] = (bucket("s" + shape(token.text)), bucket("w" + token.form))
        else:
            form = shape(token.text)
            cased = form + ("^" if token.fresh else "")
            latin = "l" if token.form[0] < "\u0250" else "c"
            known = lexicon.known(token.form)
            found = (
                *_letters(token.form),
                bucket("s" + cased + latin),
                bucket(f"k{known}{cased}"),
                bucket(f"v{evidence.of(token)}{cased}"),
                bucket(f"j{known}{evidence.of(token)}{cased}"),
            )
        yield found + (0,) * (SLOTS - len(found))
