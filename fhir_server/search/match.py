"""What each predicate of a plan means, on the index values of one resource.

This is the executable specification: a store that compiles a leaf to its own language must
agree with it. Sources: https://hl7.org/fhir/R4/search.html, the sections per parameter type;
the prefixes are the tables ``COMPARE_SPANS`` and ``COMPARE_NUMBERS`` of ``model/datatypes``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import asin, cos, radians, sin, sqrt
from typing import assert_never

from fhir_server.model.datatypes import COMPARE_NUMBERS, COMPARE_SPANS
from fhir_server.search import plan
from fhir_server.search.values import (
    DATE_MIN,
    IndexValues,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    fold,
)
from fhir_server.search.words import has_words

Joined = plan.Chain | plan.Has | plan.Contains | plan.TextHas | plan.Coded
Join = Callable[[Joined], bool]
"""Answers a predicate that needs other resources, or the body; a store hands it in."""


def _no_join(node: Joined) -> bool:
    raise LookupError(f"{type(node).__name__} needs a store")


def matches(
    predicate: plan.Predicate,
    id: str,
    values: IndexValues,
    updated: int = 0,
    join: Join = _no_join,
) -> bool:
    """Whether the resource with this id, values and ``meta.lastUpdated`` is meant.

    ``updated``: microseconds since the epoch. Raises LookupError for a join without a store.
    """
    match predicate:
        case plan.All(parts):
            return all(matches(part, id, values, updated, join) for part in parts)
        case plan.Any(parts):
            return any(matches(part, id, values, updated, join) for part in parts)
        case plan.Not(part):
            return not matches(part, id, values, updated, join)
        case plan.Chain() | plan.Has() | plan.Contains() | plan.Coded():
            return join(predicate)
        case plan.TextHas(param="_text" | "_content"):
            return join(predicate)
        case plan.Composite(param, parts):
            groups = [group.values for group in values.groups if group.param == param]
            return any(all(matches(p, id, g, updated, join) for p in parts) for g in groups)
        case plan.EachPatient():
            of = map(predicate.of, values.patients)
            return all(matches(rule, id, values, updated, join) for rule in of)
        case _:
            return matches_leaf(predicate, id, values, updated)


def matches_leaf(leaf: plan.Leaf, id: str, values: IndexValues, updated: int = 0) -> bool:
    """``matches`` for the leaves."""
    match leaf:
        case plan.IdIn(ids):
            return id in ids
        case plan.Dated(lo, hi):
            return lo <= (updated if values.date == DATE_MIN else values.date) < hi
        case plan.UpdatedIs(prefix, lo, hi):
            return COMPARE_SPANS[prefix](lo, hi, updated, updated + 1)
        case plan.TokenIs():
            return any(_token(leaf, value) for value in values.tokens)
        case plan.StringIs():
            return any(_string(leaf, value) for value in values.strings)
        case plan.DateIs(param, prefix, lo, hi):
            compare = COMPARE_SPANS[prefix]
            return any(v.param == param and compare(lo, hi, v.lo, v.hi) for v in values.dates)
        case plan.NumberIs(param):
            return any(v.param == param and _number(leaf, v.lo, v.hi) for v in values.numbers)
        case plan.QuantityIs():
            return any(_quantity(leaf, value) for value in values.quantities)
        case plan.ReferenceIs():
            return any(_reference(leaf, value) for value in values.references)
        case plan.UriIs():
            return any(_uri(leaf, value) for value in values.uris)
        case plan.Present(param, kind):
            if kind == "url":
                return any(v.param == param and _is_outside(v) for v in values.references)
            return any(v.param == param for v in getattr(values, LISTS[kind]))
        case plan.Near():
            return any(_near(leaf, g.values) for g in values.groups if g.param == leaf.param)
        case plan.TextHas(param, words, prefix):
            if leaf.of_body:
                raise LookupError(f"{param} needs the body")
            texts = (v.text for v in values.strings if v.param == param)
            return any(has_words(text, words, prefix=prefix) for text in texts)
        case plan.InPatient(ids):
            return any(patient in ids for patient in values.patients)
        case _:
            assert_never(leaf)


EARTH = 6_371_008.8
"""Mean radius in metres."""


def _near(leaf: plan.Near, position: IndexValues) -> bool:
    """Great-circle distance (haversine)."""
    latitude, longitude = (n.lo for n in position.numbers)
    return distance(leaf.latitude, leaf.longitude, latitude, longitude) <= leaf.metres


def distance(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Metres between two positions in degrees."""
    here, there = radians(latitude), radians(to_latitude)
    rise, turn = (there - here) / 2, radians(to_longitude - longitude) / 2
    chord = sin(rise) ** 2 + cos(here) * cos(there) * sin(turn) ** 2
    return 2 * EARTH * asin(min(1.0, sqrt(chord)))


def _is_outside(value: ReferenceValue) -> bool:
    return not value.type and not value.url.startswith("#")


LISTS = {
    "token": "tokens",
    "string": "strings",
    "date": "dates",
    "number": "numbers",
    "quantity": "quantities",
    "reference": "references",
    "uri": "uris",
}
"""Parameter type -> the list of ``IndexValues`` that holds its values."""


def _token(leaf: plan.TokenIs, value: TokenValue) -> bool:
    return (
        value.param == leaf.param
        and leaf.system in (None, value.system)
        and leaf.code in (None, value.code)
    )


def _string(leaf: plan.StringIs, value: StringValue) -> bool:
    if value.param != leaf.param:
        return False
    match leaf.mode:
        case "exact":
            return value.text == leaf.text
        case "starts":
            return fold(value.text).startswith(leaf.text)
        case "contains":
            return leaf.text in fold(value.text)
        case "ends":
            return fold(value.text).endswith(leaf.text)
        case "is":
            return fold(value.text) == leaf.text
        case _:
            assert_never(leaf.mode)


def _number(leaf: plan.NumberIs | plan.QuantityIs, lo: float, hi: float) -> bool:
    return COMPARE_NUMBERS[leaf.prefix](leaf.value, leaf.lo, leaf.hi, lo, hi)


def _quantity(leaf: plan.QuantityIs, value: QuantityValue) -> bool:
    if value.param != leaf.param:
        return False
    if leaf.canonical_unit:
        return leaf.canonical_unit == value.canonical_unit and _number(
            leaf, value.canonical_lo, value.canonical_hi
        )
    return (
        leaf.system in (None, value.system)
        and leaf.code in (None, value.code, value.unit)
        and _number(leaf, value.lo, value.hi)
    )


def _reference(leaf: plan.ReferenceIs, value: ReferenceValue) -> bool:
    if value.param != leaf.param:
        return False
    if leaf.version not in ("", value.version) and not (
        leaf.below and value.version.startswith(f"{leaf.version}.")
    ):
        return False
    if leaf.id is None:
        return value.url == leaf.url != ""
    return value.id == leaf.id and leaf.type in (None, value.type)


def _uri(leaf: plan.UriIs, value: UriValue) -> bool:
    """``below`` and ``above`` go by whole path segments."""
    if value.param != leaf.param:
        return False
    match leaf.mode:
        case "exact":
            return value.uri == leaf.uri
        case "below":
            return (value.uri + "/").startswith(leaf.uri.rstrip("/") + "/")
        case "above":
            return (leaf.uri + "/").startswith(value.uri.rstrip("/") + "/")
        case "version":
            return (value.uri + ".").startswith(leaf.uri + ".")
        case _:
            assert_never(leaf.mode)
