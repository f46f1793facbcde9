"""What a leaf predicate means on the index values of one resource.

Source: https://hl7.org/fhir/R4/search.html#prefix and the sections per parameter type.
"""

from __future__ import annotations

from typing import assert_never

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.values import (
    IndexValues,
    QuantityValue,
    ReferenceValue,
    TokenValue,
    fold,
)


def leaf_holds(leaf: plan.Leaf, key: Key, updated: int, values: IndexValues) -> bool:
    """Whether ``leaf`` is true of the resource ``key`` with these values."""
    match leaf:
        case plan.IdIn(ids):
            return key.id in ids
        case plan.UpdatedIs(prefix, lo, hi):
            return range_holds(prefix, updated, updated + 1, lo, hi)
        case plan.TokenIs():
            return any(_token(leaf, v) for v in values.tokens)
        case plan.StringIs(param, text, mode):
            return any(v.param == param and _string(v.text, text, mode) for v in values.strings)
        case plan.DateIs(param, prefix, lo, hi):
            return any(
                v.param == param and range_holds(prefix, v.lo, v.hi, lo, hi) for v in values.dates
            )
        case plan.NumberIs():
            return any(
                v.param == leaf.param and number_holds(leaf, v.lo, v.hi) for v in values.numbers
            )
        case plan.QuantityIs():
            return any(_quantity(leaf, v) for v in values.quantities)
        case plan.ReferenceIs():
            return any(_reference(leaf, v) for v in values.references)
        case plan.UriIs(param, uri, mode):
            return any(v.param == param and _uri(v.uri, uri, mode) for v in values.uris)
        case plan.Present(param, kind):
            if kind == "url":
                return any(v.param == param and v.url for v in values.references)
            return any(v.param == param for v in getattr(values, _LISTS[kind]))
        case plan.InPatient(ids):
            return any(p in ids for p in values.patients)
        case _:
            assert_never(leaf)


_LISTS = {
    "token": "tokens",
    "string": "strings",
    "date": "dates",
    "number": "numbers",
    "quantity": "quantities",
    "reference": "references",
    "uri": "uris",
}


def range_holds(prefix: plan.Prefix, lo: int, hi: int, low: int, high: int) -> bool:
    """The stored range ``[lo, hi)`` against the searched range ``[low, high)``."""
    within = low <= lo and hi <= high
    match prefix:
        case "eq":
            return within
        case "ne":
            return not within
        case "gt":
            return hi > high
        case "lt":
            return lo < low
        case "ge":
            return hi > high or within
        case "le":
            return lo < low or within
        case "sa":
            return lo >= high
        case "eb":
            return hi <= low
        case "ap":
            return lo < high and hi > low
        case _:
            assert_never(prefix)


def number_holds(leaf: plan.NumberIs | plan.QuantityIs, lo: float, hi: float) -> bool:
    """The stored range ``[lo, hi]`` (closed) against the searched value or its precision."""
    within = leaf.lo <= lo and hi < leaf.hi
    match leaf.prefix:
        case "eq":
            return within
        case "ne":
            return not within
        case "gt":
            return hi > leaf.value
        case "lt":
            return lo < leaf.value
        case "ge":
            return hi >= leaf.value
        case "le":
            return lo <= leaf.value
        case "sa":
            return lo > leaf.value
        case "eb":
            return hi < leaf.value
        case "ap":
            return lo < leaf.hi and hi >= leaf.lo
        case _:
            assert_never(leaf.prefix)


def _token(leaf: plan.TokenIs, value: TokenValue) -> bool:
    return (
        value.param == leaf.param
        and leaf.system in (None, value.system)
        and leaf.code in (None, value.code)
    )


def _string(stored: str, text: str, mode: str) -> bool:
    if mode == "exact":
        return stored == text
    folded = fold(stored)
    return folded.startswith(text) if mode == "starts" else text in folded


def _quantity(leaf: plan.QuantityIs, value: QuantityValue) -> bool:
    if value.param != leaf.param:
        return False
    if leaf.canonical_unit:
        return value.canonical_unit == leaf.canonical_unit and number_holds(
            leaf, value.canonical_lo, value.canonical_hi
        )
    if leaf.system is not None and leaf.system != value.system:
        return False
    if leaf.code is not None and leaf.code not in (value.code, value.unit):
        return False
    return number_holds(leaf, value.lo, value.hi)


def _reference(leaf: plan.ReferenceIs, value: ReferenceValue) -> bool:
    if value.param != leaf.param or leaf.version not in ("", value.version):
        return False
    if leaf.id is not None and value.id == leaf.id and leaf.type in (None, value.type):
        return True
    return leaf.url != "" and value.url == leaf.url


def _uri(stored: str, uri: str, mode: str) -> bool:
    match mode:
        case "below":
            return stored.startswith(uri)
        case "above":
            return uri.startswith(stored)
        case _:
            return stored == uri
