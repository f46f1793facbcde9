"""Order: sort values of a resource, comparison, and the place of a cursor.

The same for every store that sorts in Python. Source: https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cmp_to_key
from typing import Any, TypeAlias, assert_never

from fhir_server.model.resource import Key
from fhir_server.search.plan import Cursor, SortKey
from fhir_server.search.values import FOLDED, PART, IndexValues, fold

Scalar: TypeAlias = int | float | str


def cursor_of(
    sort: tuple[SortKey, ...], key: Key, updated: int, rid: int, values: IndexValues
) -> Cursor:
    """Where a resource stands in this order: its sort values, then its creation number."""
    return (*(sort_value(k, key, updated, values) for k in sort), rid)


def sort_value(by: SortKey, key: Key, updated: int, values: IndexValues) -> Scalar | None:
    """The value that counts: smallest ascending, greatest descending; None without any."""
    names = (by.param, *by.more)
    match by.kind:
        case "main":
            return values.date
        case "id":
            return key.id
        case "updated":
            return updated
        case "date":
            return _pick(by, (v.lo for v in values.dates if v.param in names))
        case "string":
            texts = (v.text for v in values.strings if v.param in names)
            return _pick(by, (fold(text) for text in texts if not text.endswith(PART)))
        case "token":
            codes = (v.code for v in values.tokens if v.param in names)
            return _pick(by, (code for code in codes if not code.endswith(FOLDED)))
        case "number":
            return _pick(by, (v.lo for v in values.numbers if v.param in names))
        case "quantity":
            return _pick(
                by,
                (
                    v.canonical_lo if v.canonical_unit else v.lo
                    for v in values.quantities
                    if v.param in names
                ),
            )
        case "uri":
            return _pick(by, (v.uri for v in values.uris if v.param in names))
        case _:
            assert_never(by.kind)


def _pick(by: SortKey, found: Iterable[Scalar]) -> Scalar | None:
    values = list(found)
    if not values:
        return None
    return max(values) if by.descending else min(values)


def position_key(sort: tuple[SortKey, ...]) -> Callable[[Cursor], Any]:
    """A ``sorted`` key for cursors of this order."""

    def compare(left: Cursor, right: Cursor) -> int:
        for by, a, b in zip(sort, left, right, strict=False):
            if a == b:
                continue
            if a is None or b is None:
                return 1 if a is None else -1
            smaller = a < b  # type: ignore[operator]
            return -1 if smaller != by.descending else 1
        newest_first = bool(sort) and sort[0].descending
        older = left[-1] < right[-1]  # type: ignore[operator]
        return 0 if left[-1] == right[-1] else (-1 if older != newest_first else 1)

    return cmp_to_key(compare)
