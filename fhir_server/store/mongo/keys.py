"""From index values to what MongoDB's indexes hold of a resource.

Everything that is compared for equality is one hash in one array (``k``), so one compound
index that ends in the clinical date serves every such search in order. Hashes are keyed with
a secret of the database, so nobody can prepare a collision.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

from fhir_server.search.values import GroupValue, IndexValues, QuantityValue, fold

Range: TypeAlias = tuple[int, int | float, int | float]

PAIRED: Final = "code"
"""The index whose tokens are also kept together with each patient that a resource refers to:
"this patient's values of that code" is the search that clinics make all day."""
HEAD: Final = 64
"""Characters of a text that are in the index; what is longer is compared in full afterwards."""
REPEATED: Final = 16_384
"""Hashes that are remembered: codes and patients come again and again."""
_LONG = Struct("<q").unpack
_LAST: Final = 0x10FFFF


class Indexed(NamedTuple):
    """The indexed arrays of one resource: ``k`` hashes, ``s`` texts behind the hash of their
    parameter, ``r`` ranges {p: hash of the parameter, a: low end, b: high end}."""

    k: list[int]
    s: list[str]
    r: list[dict[str, Any]]


def head(text: str) -> str:
    """The part of a text that is indexed; BSON holds no lone surrogates."""
    return text[:HEAD].encode("utf-8", "replace").decode()


def behind(text: str) -> str:
    """The least text behind everything that starts with ``text``, by code points."""
    stem = text.rstrip(chr(_LAST))
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


class Keys:
    """The hashes of one database."""

    def __init__(self, secret: bytes) -> None:
        self._seed = blake2b(digest_size=8, key=secret)
        self._heads: dict[tuple[str, str, str], blake2b] = {}
        self._hash = lru_cache(REPEATED)(self._hashed)

    def _hashed(self, kind: str, type_: str, param: str, value: str) -> int:
        head = self._heads.get((kind, type_, param))
        if head is None:
            head = self._seed.copy()
            head.update("\0".join((kind, type_, param, "")).encode())
            self._heads[kind, type_, param] = head
        found = head.copy()
        found.update(value.encode("utf-8", "surrogatepass"))
        number: int = _LONG(found.digest())[0]
        return number

    def everything(self, type_: str) -> int:
        """All current resources of a type."""
        return self._hash("all", type_, "", "")

    def containing(self, type_: str, inner: str) -> int:
        """What contains a resource of the type ``inner``."""
        return self._hash("containing", type_, "", inner)

    def patient(self, type_: str, id_: str) -> int:
        """A type in one patient's compartment."""
        return self._hash("patient", type_, "", id_)

    def token(self, type_: str, param: str, system: str | None, code: str) -> int:
        """``system`` None: the code in any system."""
        if system is None:
            return self._hash("code", type_, param, code)
        return self._hash("token", type_, param, "\0".join((system, code)))

    def reference(self, type_: str, param: str, target: str | None, id_: str) -> int:
        """``target`` None: the id in any type."""
        return self._hash("reference", type_, param, id_ if target is None else f"{target}/{id_}")

    def url(self, type_: str, param: str, url: str) -> int:
        return self._hash("url", type_, param, url)

    def canonical(self, type_: str, param: str, name: str) -> int:
        """A canonical reference, with its version if it states one."""
        return self._hash("canonical", type_, param, name)

    def uri(self, type_: str, param: str, uri: str) -> int:
        return self._hash("uri", type_, param, uri)

    def pair(self, type_: str, param: str, id_: str, code: str) -> int:
        """A patient that is referred to by ``param``, together with a code."""
        return self._hash("pair", type_, param, "\0".join((id_, code)))

    def group(self, type_: str, param: str, part: str | None = None, code: str = "") -> int:
        """An element of several parts, by itself or with the code of one part."""
        return self._hash("group", type_, param, "" if part is None else "\0".join((part, code)))

    def dates(self, type_: str, param: str) -> int:
        return self._hash("date", type_, param, "")

    def numbers(self, type_: str, param: str) -> int:
        return self._hash("number", type_, param, "")

    def quantities(self, type_: str, param: str, unit: str) -> int:
        """``unit``: canonical; "" is the numbers as they were written."""
        return self._hash("quantity", type_, param, unit)

    def texts(self, type_: str, param: str, kind: str = "string") -> str:
        """What stands before the indexed texts of a parameter."""
        return f"{self._hash(kind, type_, param, '') & (2**64 - 1):016x}"

    def indexed(self, type_: str, values: IndexValues) -> Indexed:
        """What the indexes hold of a current resource."""
        k = {self.everything(type_)}
        k.update(self.patient(type_, patient) for patient in values.patients)
        k.update(self.containing(type_, inner.type) for inner in values.contained)
        for param, system, code in values.tokens:
            k.add(self.token(type_, param, None, code))
            k.add(self.token(type_, param, system, code))
        for found in values.references:
            param, target, id_, url, _ = found
            if id_:
                k.add(self.reference(type_, param, None, id_))
                k.add(self.reference(type_, param, target, id_))
            if url:
                k.add(self.url(type_, param, url))
                k.add(self.canonical(type_, param, found.canonical))
        self._pairs(type_, values, k)
        for group in values.groups:
            self._group(type_, group, k)
        s = {self.texts(type_, v.param) + head(fold(v.text)) for v in values.strings}
        for param, uri in values.uris:
            k.add(self.uri(type_, param, uri))
            s.add(self.texts(type_, param, "path") + head(uri))
        r: dict[Range, None] = {
            (self.dates(type_, v.param), v.lo, v.hi): None for v in values.dates
        }
        for number in values.numbers:
            r[self.numbers(type_, number.param), float(number.lo), float(number.hi)] = None
        for quantity in values.quantities:
            self._quantity(type_, quantity, r)
        return Indexed(sorted(k), sorted(s), [{"p": p, "a": a, "b": b} for p, a, b in r])

    def _pairs(self, type_: str, values: IndexValues, k: set[int]) -> None:
        codes = {v.code for v in values.tokens if v.param == PAIRED}
        if codes:
            patients = {(r.param, r.id) for r in values.references if r.type == "Patient" and r.id}
            k.update(self.pair(type_, p, i, code) for p, i in patients for code in codes)

    def _group(self, type_: str, group: GroupValue, k: set[int]) -> None:
        k.add(self.group(type_, group.param))
        k.update(self.group(type_, group.param, t.param, t.code) for t in group.values.tokens)

    def _quantity(self, type_: str, found: QuantityValue, r: dict[Range, None]) -> None:
        param, unit = found.param, found.canonical_unit
        r[self.quantities(type_, param, ""), float(found.lo), float(found.hi)] = None
        if unit:
            low, high = float(found.canonical_lo), float(found.canonical_hi)
            r[self.quantities(type_, param, unit), low, high] = None
