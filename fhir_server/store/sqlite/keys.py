"""From index values to the rows of the index tables, and from leaves to the lists they read.

Hashes are keyed with a secret of the database, so nobody can prepare a collision.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple, TypeAlias, assert_never

from fhir_server.search import plan
from fhir_server.search.values import (
    IndexValues,
    QuantityValue,
    ReferenceValue,
    TokenValue,
    fold,
)

Span: TypeAlias = tuple[int, int, int | float, int | float]
"""One range: (h, s, lo, hi)."""
Pair: TypeAlias = tuple[int, int]
"""One posting list: (h, s)."""
List: TypeAlias = tuple[int, int, int, int]
"""A stretch of one posting list: (h, s, first date, last date)."""

DAY: Final = 86_400_000_000
DURATIONS: Final = (
    1,
    1_000,
    1_000_000,
    60_000_000,
    DAY,
    *(days * DAY for days in (28, 29, 30, 31, 365, 366)),
)
"""What FHIR's precisions last, in microseconds (months and years in days). A date that is the
main date of its resource and lasts so long is a posting: ``s`` is 1 + the index here."""
PAIRED: Final = "code"
"""The index whose tokens are also posted together with each patient that a resource refers to:
"this patient's values of that code" is the search that clinics make all day, and a patient may
have a hundred thousand observations."""
_SHAPES: Final = {duration: number for number, duration in enumerate(DURATIONS, 1)}
FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1
REPEATED: Final = 16_384
"""Hashes that are remembered: codes, patients and fixed lists come again and again."""
_LONG_TEXT: Final = 80
"""Characters of a text from which on it hardly comes again."""
_WIDE = Struct("<qi").unpack
_LONG = Struct("<q").unpack


class Rows(NamedTuple):
    """The index rows of one resource, without rid: postings (h, s), strings (h, text),
    spans (h, s, lo, hi)."""

    date: int
    postings: set[tuple[int, int]]
    strings: set[tuple[int, str]]
    spans: set[Span]


NO_ROWS: Final = Rows(0, set(), set(), set())


class _OfType(NamedTuple):
    """What is remembered of one type. ``lists``: of tokens and references to an id; ``strings``,
    ``moments``: hashes by parameter."""

    everything: Pair
    lists: dict[TokenValue | ReferenceValue, Pair]
    strings: dict[str, int]
    moments: dict[str, int]


_remembered = lru_cache(REPEATED)(fold)


def whole(pair: Pair) -> List:
    return (*pair, FIRST, LAST)


def stretches(prefix: plan.Prefix, lo: int, hi: int, duration: int) -> list[tuple[int, int]]:
    """The starts of ranges of this duration for which ``prefix`` holds against ``[lo, hi)``:
    closed stretches, the table of search prefixes solved for the start."""
    match prefix:
        case "eq":
            return [(lo, hi - duration)]
        case "ne":
            return [(FIRST, lo - 1), (max(lo, hi - duration + 1), LAST)]
        case "gt":
            return [(hi - duration + 1, LAST)]
        case "lt":
            return [(FIRST, lo - 1)]
        case "ge":
            return [(min(lo, hi - duration + 1), LAST)]
        case "le":
            return [(FIRST, max(lo - 1, hi - duration))]
        case "sa":
            return [(hi, LAST)]
        case "eb":
            return [(FIRST, lo - duration)]
        case "ap":
            return [(lo - duration + 1, hi - 1)]
        case _:
            assert_never(prefix)


def contained_in(type_: str) -> str:
    """The name under which a container has the rows of what it contains of this type."""
    return f"#{type_}"


class Keys:
    """The hashes of one database."""

    def __init__(self, secret: bytes) -> None:
        self._wide = blake2b(digest_size=12, key=secret)
        self._long = blake2b(digest_size=8, key=secret)
        self._heads: dict[tuple[str, str, str], blake2b] = {}
        self._of_types: dict[str, _OfType] = {}
        self._hash = lru_cache(REPEATED)(self._hashed)
        self.system = lru_cache(REPEATED)(self._system)
        self.patient = lru_cache(REPEATED)(self._patient)
        self._paired = lru_cache(REPEATED)(self._pair)
        self._of_unit = lru_cache(REPEATED)(self._quantities)

    def _head(self, kind: str, type_: str, param: str) -> blake2b:
        head = self._heads.get((kind, type_, param))
        if head is None:
            head = self._long.copy()
            head.update("\0".join((kind, type_, param, "")).encode())
            self._heads[kind, type_, param] = head
        return head

    def _hashed(self, kind: str, type_: str, param: str, value: str) -> int:
        found = self._head(kind, type_, param).copy()
        found.update(value.encode("utf-8", "surrogatepass"))
        number: int = _LONG(found.digest())[0]
        return number

    def _system(self, system: str) -> int:
        """The short hash of a token's system or of a reference's type; "" is 0."""
        if not system:
            return 0
        hashed = self._long.copy()
        hashed.update(b"system\0" + system.encode("utf-8", "surrogatepass"))
        return int(_LONG(hashed.digest())[0]) >> 32 or 1

    def everything(self, type_: str) -> Pair:
        """The list of all current resources of a type."""
        return self._hash("all", type_, "", ""), 0

    def _patient(self, type_: str, id_: str) -> Pair:
        """The list of a type in one patient's compartment; 96 bits of hash."""
        found = self._wide.copy()
        found.update("\0".join(("patient", type_, id_)).encode())
        h, s = _WIDE(found.digest())
        return h, s

    def token(self, type_: str, param: str, code: str) -> int:
        return self._hash("token", type_, param, code)

    def reference(self, type_: str, param: str, id_: str) -> int:
        return self._hash("reference", type_, param, id_)

    def pair(self, type_: str, param: str, id_: str, code: str) -> int:
        """A patient that is referred to by ``param``, together with a code."""
        return self._hash("pair", type_, param, "\0".join((id_, code)))

    def _pair(self, type_: str, param: str, id_: str, code: str, system: str) -> Pair:
        """The list of what refers to a patient and bears a code."""
        h = self._hashed("pair", type_, param, "\0".join((id_, code)))
        return h, self.system(system)

    def url(self, type_: str, param: str, url: str) -> Pair:
        return self._hash("url", type_, param, url), 0

    def uri(self, type_: str, param: str, uri: str) -> Pair:
        return self._hash("uri", type_, param, uri), 0

    def string(self, type_: str, param: str) -> int:
        return self._hash("string", type_, param, "")

    def dates(self, type_: str, param: str, *, short: bool) -> int:
        """Short: at most a day long."""
        return self._hash("date", type_, param, "short" if short else "long")

    def moments(self, type_: str, param: str) -> int:
        """The postings of main dates."""
        return self._hash("moment", type_, param, "")

    def numbers(self, type_: str, param: str, *, short: bool) -> int:
        """Short: a point (``lo == hi``)."""
        return self._hash("number", type_, param, "short" if short else "long")

    def quantities(self, type_: str, param: str, unit: str, *, short: bool) -> int:
        """``unit``: canonical; "" is the list of the numbers as they were written."""
        return self._hash("quantity", type_, param, ("short " if short else "long ") + unit)

    def _quantities(self, type_: str, param: str, unit: str, short: bool) -> int:
        return self.quantities(type_, param, unit, short=short)

    def coded(self, type_: str, code: str) -> int:
        """The ``s`` of the quantities of a resource with this ``code``."""
        return self.token(type_, PAIRED, code) >> 16

    def rows(self, type_: str, values: IndexValues) -> Rows:
        """All index rows of a current resource."""
        of = self._of_types.get(type_) or self._of_type(type_)
        postings = {of.everything}
        add = postings.add
        for patient in values.patients:
            add(self.patient(type_, patient))
        remembered, kept = of.lists.get, self._kept
        codes: list[TokenValue] = []
        for token in values.tokens:
            add(remembered(token) or kept(type_, token))
            if token[0] == PAIRED:
                codes.append(token)
        for reference in values.references:
            param, target, id_, url, _ = reference
            if id_:
                add(remembered(reference) or kept(type_, reference))
                if target == "Patient":
                    for _, system, code in codes:
                        add(self._paired(type_, param, id_, code, system))
            if url:
                add(self.url(type_, param, url))
        for param, uri in values.uris:
            add(self.uri(type_, param, uri))
        named = of.strings
        strings: set[tuple[int, str]] = set()
        for param, text in values.strings:
            folded = _remembered(text) if len(text) < _LONG_TEXT else fold(text)
            strings.add((named.get(param) or self._named(type_, param), folded))
        spans: set[Span] = set()
        for param, lo, hi in values.dates:
            shape = _SHAPES.get(hi - lo) if lo == values.date else None
            if shape is not None:
                h = of.moments.get(param)
                if h is None:
                    h = of.moments[param] = self.moments(type_, param)
                add((h, shape))
            else:
                spans.add((self.dates(type_, param, short=hi - lo <= DAY), 0, lo, hi))
        for name, low, high in values.numbers:
            spans.add((self.numbers(type_, name, short=low == high), 0, low, high))
        if values.quantities:
            hashed = {self.coded(type_, token.code) for token in codes} if codes else {0}
            for quantity in values.quantities:
                self._add_quantity(spans, type_, quantity, hashed)
        for inner in values.contained:
            more = self.rows(contained_in(inner.type), inner.values)
            postings |= more.postings
            strings |= more.strings
            spans |= more.spans
        return Rows(values.date, postings, strings, spans)

    def _of_type(self, type_: str) -> _OfType:
        found = self._of_types[type_] = _OfType(self.everything(type_), {}, {}, {})
        return found

    def _named(self, type_: str, param: str) -> int:
        found = self._of_types[type_].strings[param] = self.string(type_, param)
        return found

    def _kept(self, type_: str, value: TokenValue | ReferenceValue) -> Pair:
        """The list of a token or of a reference to an id."""
        if isinstance(value, TokenValue):
            pair = self.token(type_, value.param, value.code), self.system(value.system)
        else:
            pair = self.reference(type_, value.param, value.id), self.system(value.type)
        remembered = self._of_types[type_].lists
        if len(remembered) >= REPEATED:
            remembered.clear()
        remembered[value] = pair
        return pair

    def _add_quantity(
        self, spans: set[Span], type_: str, found: QuantityValue, codes: set[int]
    ) -> None:
        param, lo, hi, _, _, _, canonical_lo, canonical_hi, canonical_unit = found
        h = self._of_unit(type_, param, "", lo == hi)
        for s in codes:
            spans.add((h, s, lo, hi))
        if canonical_unit:
            h = self._of_unit(type_, param, canonical_unit, canonical_lo == canonical_hi)
            for s in codes:
                spans.add((h, s, canonical_lo, canonical_hi))
