"""Slices: what tells them apart, their order, slices of slices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.profile.small import (
    BASE,
    CATEGORY,
    NAMED,
    Json,
    bundle,
    concept,
    element,
    entry,
    found,
    observation,
    profile,
    sliced,
)
from tests.validation.profile.world import World

A = element(f"{CATEGORY}:a", patternCodeableConcept=concept("a"), max="1")
B = element(f"{CATEGORY}:b", patternCodeableConcept=concept("b"), min=1)


@pytest.mark.parametrize(
    ("rules", "ordered", "codes", "expected"),
    [
        ("open", False, "xab", []),
        ("open", False, "xa", [("required", CATEGORY)]),
        ("open", False, "aab", [("structure", f"{CATEGORY}[1]")]),
        ("closed", False, "bax", [("structure", f"{CATEGORY}[2]")]),
        ("openAtEnd", False, "abx", []),
        ("openAtEnd", False, "axb", [("structure", f"{CATEGORY}[2]")]),
        ("open", True, "ab", []),
        ("open", True, "ba", [("structure", f"{CATEGORY}[1]")]),
    ],
)
def test_rules_and_order(
    rules: str, ordered: bool, codes: str, expected: list[tuple[str, str]]
) -> None:
    slicing = sliced(CATEGORY, "pattern", "$this", rules=rules, ordered=ordered)
    world = World(more=[profile("Observation", slicing, A, B)])
    assert found(world, observation(category=[concept(c) for c in codes])) == expected


def test_slices_of_slices() -> None:
    inner = {"discriminator": [{"type": "exists", "path": "text"}], "rules": "closed"}
    world = World(
        more=[
            profile(
                "Observation",
                sliced(CATEGORY, "pattern", "$this", rules="open"),
                element(f"{CATEGORY}:a", patternCodeableConcept=concept("a"), slicing=inner),
                element(f"{CATEGORY}:a/said", max="1", min=1),
                element(f"{CATEGORY}:a/said.text", min=1),
            )
        ]
    )
    said = concept("a") | {"text": "said"}
    assert found(world, observation(category=[said, concept("x")])) == []
    assert found(world, observation(category=[said, concept("a")])) == [
        ("structure", f"{CATEGORY}[1]")
    ]
    assert found(world, observation(category=[said, said])) == [("structure", f"{CATEGORY}[1]")]
    assert found(world, observation(category=[concept("x")])) == [("required", CATEGORY)]


PART = "Observation.component"


def component(code: str, **members: Any) -> Json:
    return {"code": concept(code), **members}


def test_by_value_below() -> None:
    """What is fixed below the path counts as well."""
    world = World(
        more=[
            profile(
                "Observation",
                sliced(PART, "value", "code.coding.code", rules="open"),
                element(f"{PART}:a", min=1),
                element(f"{PART}:a.code.coding.code", fixedCode="a"),
                element(f"{PART}:a.value[x]", min=1),
            )
        ]
    )
    good = component("a", valueInteger=1)
    assert found(world, observation(component=[component("b"), good])) == []
    assert found(world, observation(component=[component("b")])) == [("required", PART)]
    assert found(world, observation(component=[component("b"), component("a")])) == [
        ("required", f"{PART}[1].value")
    ]


def test_by_type() -> None:
    value = "Observation.value[x]"
    world = World(
        more=[
            profile(
                "Observation",
                sliced(value, "type", "$this", rules="closed"),
                element(f"{value}:valueQuantity", type=[{"code": "Quantity"}]),
                element(f"{value}:valueQuantity.unit", min=1),
            )
        ]
    )
    assert found(world, observation(valueQuantity={"value": 1, "unit": "g"})) == []
    at = "Observation.value.ofType(Quantity)"
    assert found(world, observation(valueQuantity={"value": 1})) == [("required", f"{at}.unit")]
    assert found(world, observation(valueString="x")) == [
        ("structure", "Observation.value.ofType(string)")
    ]


def test_by_existence() -> None:
    world = World(
        more=[
            profile(
                "Observation",
                sliced(PART, "exists", "dataAbsentReason", rules="open"),
                element(f"{PART}:absent", max="1"),
                element(f"{PART}:absent.dataAbsentReason", min=1),
                element(f"{PART}:there"),
                element(f"{PART}:there.dataAbsentReason", max="0"),
                element(f"{PART}:there.value[x]", min=1),
            )
        ]
    )
    absent = component("a", dataAbsentReason={"text": "x"})
    assert found(world, observation(component=[absent, component("a", valueInteger=1)])) == []
    assert found(world, observation(component=[absent, absent])) == [("structure", f"{PART}[1]")]
    assert found(world, observation(component=[component("a")])) == [
        ("required", f"{PART}[0].value")
    ]


def test_by_profile_and_by_type_of_a_resource() -> None:
    path = "Bundle.entry"
    for kind, types in (
        ("profile", [{"code": "Patient", "profile": ["urn:named"]}]),
        ("type", [{"code": "Patient"}]),
    ):
        own = profile(
            "Bundle",
            sliced(path, kind, "resource", rules="open"),
            element(f"{path}:patient", min=1, max="1"),
            element(f"{path}:patient.resource", min=1, type=types),
        )
        world = World(more=[own, NAMED])
        named = entry({"resourceType": "Patient", "name": [{"text": "A"}]}, "1")
        plain = entry({"resourceType": "Patient"}, "2")
        other = entry({"resourceType": "Basic", "code": {"text": "x"}}, "3")
        assert found(world, bundle(other, named)) == []
        assert found(world, bundle(other)) == [("required", path)]
        assert found(world, bundle(other, plain)) == (
            [("required", path)] if kind == "profile" else []
        )
        assert found(world, bundle(named, named | {"fullUrl": "urn:oid:1.2"})) == [
            ("structure", f"{path}[1]")
        ]


def test_through_references() -> None:
    path = "Observation.performer"
    target = [{"code": "Reference", "targetProfile": [BASE + "Practitioner"]}]
    own = profile(
        "Observation",
        sliced(path, "type", "resolve()", rules="closed"),
        element(f"{path}:practitioner", type=target, max="1"),
    )
    world = World(more=[own])
    inside = {"resourceType": "Practitioner", "id": "p"}
    other = {"resourceType": "Patient", "id": "q"}
    good = observation(contained=[inside], performer=[{"reference": "#p"}])
    assert found(world, good) == []
    bad = observation(contained=[other], performer=[{"reference": "#q"}])
    assert found(world, bad) == [("structure", f"{path}[0]")]
