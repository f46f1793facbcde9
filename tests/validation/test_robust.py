"""Whatever the values are: a verdict, never another exception, and the passes agree."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.problem import Issue, Unprocessable
from fhir_server.validation.validate import Validator

from .test_examples import examples

VALIDATOR = Validator(load())
KEYS = [
    "id",
    "extension",
    "url",
    "contained",
    "resourceType",
    "reference",
    "_given",
    "given",
    "name",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.sampled_from(["", " ", "#", "#a", "?", "Patient", "Patient/1", "Patient?a=b", "2020-02-30"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
TYPES = st.sampled_from(sorted(load().resource_types))


def agree(validator: Validator, resource: Any) -> bool:
    """Whether it is valid; the fast pass accepts nothing that the slow pass refuses."""
    issues = validator.issues(resource)
    surely = validator.surely(resource)
    assert not (surely and issues)
    assert raised(validator, resource) == issues
    for issue in issues:
        assert issue.diagnostics and issue.code
    return not issues


def raised(validator: Validator, resource: Any) -> list[Issue]:
    """The issues of a refused write."""
    try:
        validator.check(resource)
    except Unprocessable as problem:
        return list(problem.issues)
    return []


@settings(max_examples=150, deadline=None)
@given(TYPES, st.data())
def test_random_members(type_: str, data: st.DataObject) -> None:
    keys = st.sampled_from([*load().members(type_), *KEYS, "_id", "x"])
    members = data.draw(st.dictionaries(keys, VALUES, max_size=5))
    agree(VALIDATOR, {**members, "resourceType": type_})


HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 2**40, "", " ", "x", "#", "#x", "?", "0000", "\ud800", "\x00"),
    *([], {}, [None], [[]], [{}], {"id": "a"}, {"x": 1}, {"extension": []}, [0], ["x"]),
    *(Decimal("NaN"), Decimal("Infinity"), Decimal("1e999999"), 10**6000),
    {"resourceType": "Patient"},
    [{"resourceType": "Patient", "contained": [{"resourceType": "Patient"}]}],
]


@pytest.mark.parametrize("each", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_hostile_values_anywhere(validator: Validator, shared: Path, each: int) -> None:
    """Every kind of value in every kind of place of the official examples."""
    chooser = random.Random(7)
    refused = tried = 0
    for file in examples(shared)[:: 3 if each < 100 else 1]:
        if file.stat().st_size > 40_000:
            continue
        resource = loads(file.read_bytes())
        spots = list(containers(resource))
        for _ in range(each):
            holder, key = chooser.choice(spots)
            before = holder[key]
            holder[key] = chooser.choice(HOSTILE)
            tried += 1
            refused += not agree(validator, resource)
            holder[key] = before
    assert refused > 0.8 * tried


def containers(value: Any) -> Any:
    """Every object or array with each of its keys."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for key, inner in one.items() if isinstance(one, dict) else enumerate(one):
            yield one, key
            if isinstance(inner, dict | list):
                waiting.append(inner)
