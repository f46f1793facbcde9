"""Index values: what one resource offers to search, extracted once when it is written.

Dates are half-open ranges ``[lo, hi)`` in microseconds since the epoch (UTC), open ends are
``DATE_MIN``/``DATE_MAX``. Numbers and quantities are closed ranges ``[lo, hi]`` of float64:
a plain value has ``lo == hi``; the precision of the *search* value makes the range, not
that of the stored one (https://hl7.org/fhir/R4/search.html#number).
``param`` is an index name: parameters with equal expressions share one (aliases).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DATE_MIN: Final = -(2**62)
DATE_MAX: Final = 2**62
CANONICAL: Final = "_canonical"
"""The index of what a canonical reference may say to mean a resource: its url, and its
url|version. Not a search parameter."""


class TokenValue(NamedTuple):
    """A coded value. ``system`` is "" where the element has none."""

    param: str
    system: str
    code: str


FOLDED: Final = "\0"
"""Ends the code of a second token, of a code with capitals without them: where case does not
matter, a code is looked for as it is without capitals and with this behind it."""


def tokens_of(param: str, system: str, code: str) -> tuple[TokenValue, ...]:
    """A code as it is written, and folded if that is another.

    Whether case matters is decided when it is searched for: code systems come and go.
    https://hl7.org/fhir/R4/search.html#token
    """
    folded = code.casefold()
    if folded == code:
        return (TokenValue(param, system, code),)
    return TokenValue(param, system, code), TokenValue(param, system, folded + FOLDED)


PART: Final = FOLDED
"""Ends a string that is a part of another: it is found by its beginning, but is no whole."""


class StringValue(NamedTuple):
    param: str
    text: str


class DateValue(NamedTuple):
    param: str
    lo: int
    hi: int


class NumberValue(NamedTuple):
    param: str
    lo: float
    hi: float


class QuantityValue(NamedTuple):
    """A quantity as written, and in canonical UCUM units where it has any.

    ``canonical_unit`` is "" for a quantity that is not in UCUM.
    """

    param: str
    lo: float
    hi: float
    system: str
    code: str
    unit: str
    canonical_lo: float
    canonical_hi: float
    canonical_unit: str


class ReferenceValue(NamedTuple):
    """A reference: ``type`` and ``id`` of a local target, else ``url`` (absolute, urn, canonical).

    ``version`` is "" unless the reference names one (``/_history/2`` or ``|2``).
    """

    param: str
    type: str
    id: str
    url: str
    version: str

    @property
    def canonical(self) -> str:
        """What the index ``CANONICAL`` of its targets holds."""
        return f"{self.url}|{self.version}" if self.version else self.url


class UriValue(NamedTuple):
    param: str
    uri: str


class GroupValue(NamedTuple):
    """What one element offers to a parameter of several parts: a composite, a position.

    The values in it are named by the number of the part.
    """

    param: str
    values: IndexValues


class ContainedValue(NamedTuple):
    """What a contained resource offers. Its ``date`` is that of its container."""

    type: str
    id: str
    values: IndexValues


@dataclass(slots=True)
class IndexValues:
    """Everything that search knows of one version of one resource.

    ``date``: the main clinical date (start of its range, DATE_MIN without one), by which every
    posting list is sorted. ``patients``: ids of the Patient compartments that the resource is in.
    """

    date: int = DATE_MIN
    patients: tuple[str, ...] = ()
    tokens: list[TokenValue] = field(default_factory=list)
    strings: list[StringValue] = field(default_factory=list)
    dates: list[DateValue] = field(default_factory=list)
    numbers: list[NumberValue] = field(default_factory=list)
    quantities: list[QuantityValue] = field(default_factory=list)
    references: list[ReferenceValue] = field(default_factory=list)
    uris: list[UriValue] = field(default_factory=list)
    groups: list[GroupValue] = field(default_factory=list)
    contained: list[ContainedValue] = field(default_factory=list)


_STROKES: Final = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d"}
)
"""Letters whose stroke or dot Unicode does not take for an accent."""


def fold(text: str) -> str:
    """Case and accents folded away, in every script; white space collapsed.

    https://hl7.org/fhir/R4/search.html#string: case-insensitive, accents ignored.
    """
    return " ".join(plain(text).split())


def plain(text: str) -> str:
    """``fold`` with white space as it is."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", text.casefold().translate(_STROKES))
    if not bare.isascii():
        bare = _FOREIGN.sub(_uncombined, bare)
    return unicodedata.normalize("NFKC", bare).casefold()


_FOREIGN: Final = re.compile("[^\0-\x7f]+")


def _uncombined(found: re.Match[str]) -> str:
    return "".join([c for c in found[0] if not unicodedata.combining(c)])
