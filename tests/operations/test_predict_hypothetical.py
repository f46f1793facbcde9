"""``$predict`` with ``override`` and ``data``: what would be, marked and never stored."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicting import (
    Chart,
    Road,
    World,
    complete,
    feature_of,
    of_type,
    parameters,
    predict,
    refusal,
    risk_of,
)

from fhir_server.access.drafts import Draft
from fhir_server.model.problem import (
    BadRequest,
    NotFound,
    Problem,
    Unprocessable,
)
from fhir_server.model.resource import Key

pytestmark = pytest.mark.usefixtures("each_store")


def test_a_result_of_overrides_alone_is_sound_fhir() -> None:
    """Nothing of the record is its basis: no empty arrays."""
    bare = [{"resourceType": "Patient", "id": "p"}]
    world = World(bare)
    given: dict[str, dict[str, Any]] = {
        "score2": {
            "age": ("valueInteger", 50),
            "sex": ("valueCode", "male"),
            "region": ("valueCode", "low"),
            "smoker": ("valueBoolean", True),
            "sbp": ("valueDecimal", Decimal(140)),
            "total-cholesterol": ("valueDecimal", Decimal("5.5")),
            "hdl-cholesterol": ("valueDecimal", Decimal("1.3")),
        },
        "ckd-epi-2021": {
            "age": ("valueInteger", 50),
            "sex": ("valueCode", "male"),
            "creatinine": ("valueDecimal", Decimal("0.9")),
        },
    }
    for model, override in given.items():
        bundle = predict(bare, parameters(model=model, override=override), world=world)
        for entry in bundle["entry"]:
            world.session.validate(entry["resource"])
        assert [e["resource"]["resourceType"] for e in bundle["entry"]]


def test_overrides_are_what_if() -> None:
    chart = complete(country=None)
    given = {
        "region": ("valueCode", "very high"),
        "8480-6": ("valueQuantity", {"value": Decimal("18.67"), "unit": "kPa"}),
        "smoker": ("valueBoolean", True),
    }
    bundle = predict(chart.resources, parameters(model="score2", override=given))
    assert feature_of(bundle, "sbp")["origin"]["valueCode"] == "override"
    pressure = feature_of(bundle, "sbp")["value"]["valueQuantity"]["value"]
    assert abs(float(pressure) - 140.04) < 0.01
    (risk,) = of_type(bundle, "RiskAssessment")
    assert any("What-if: region, smoker, sbp" in note["text"] for note in risk["note"])
    used = {basis["reference"] for basis in risk["basis"]}
    assert f"Observation/{chart.resources[1]['id']}/_history/1" not in used
    low = given | {"region": ("valueString", "low")}
    assert risk_of(predict(chart.resources, parameters(model="score2", override=low))) < risk_of(
        bundle
    )


@pytest.mark.parametrize(
    ("feature", "value", "reason"),
    [
        ("age", ("valueDecimal", Decimal("1e300")), "outside the population"),
        ("weight", ("valueDecimal", Decimal(80)), "unknown feature 'weight'; known: "),
        ("sbp", ("valueBoolean", True), "valueQuantity"),
        ("sbp", ("valueQuantity", {"value": 5, "unit": "mmol/L"}), "cannot be converted"),
        ("sbp", ("valueInteger", 500), "not plausible"),
        ("smoker", ("valueString", "yes"), "valueBoolean"),
        ("region", ("valueCode", "mars"), "one of low, moderate, high, very-high"),
        ("age", ("valueDecimal", Decimal("50.5")), "whole number"),
        ("age", ("valueInteger", 20), "outside the population"),
        ("diabetes", ("valueBoolean", True), "not derived for people with diabetes"),
    ],
)
def test_overrides_that_are_refused(feature: str, value: Any, reason: str) -> None:
    assert reason in refusal(complete(), override={feature: value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["value", "unit", "code", "system", "coding"]), inner)
    ),
    max_leaves=6,
)


MEMBERS = ["valueQuantity", "valueDecimal", "valueBoolean", "valueCoding", "valueCodeableConcept"]


@settings(max_examples=150, deadline=None)
@given(
    feature=st.sampled_from(["sbp", "smoker", "region", "age"]),
    member=st.sampled_from(MEMBERS),
    json=JSON,
)
def test_no_override_is_a_crash(full_world: World, feature: str, member: str, json: Any) -> None:
    """Whatever stands in ``value[x]`` gives a result or a refusal."""
    with contextlib.suppress(Problem):
        predict(
            [], parameters(model="score2", override={feature: (member, json)}), world=full_world
        )


def _urn(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012}"


def test_data_stands_for_the_record() -> None:
    chart = complete()
    full = [{"fullUrl": _urn(i), "resource": r} for i, r in enumerate(chart.resources)]
    for entry in full[1:]:
        entry["resource"]["subject"] = {"reference": _urn(0)}
    foreign = Chart()
    other = foreign.measure("2093-3", 9, "mmol/L", "2026-05-30")
    other["subject"] = {"reference": "Patient/other"}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [*full, {"resource": other}]}
    stored = risk_of(predict(complete().resources, parameters(model="score2")))
    bare = [{"resourceType": "Patient", "id": "p"}]
    world = World(bare)
    answer = predict([], parameters(model="score2", data=bundle), world=world, level="type")
    assert risk_of(answer) == stored and world.store.searches == []
    bare = predict([], bundle, query="model=score2", level="type")
    assert risk_of(bare) == stored
    instance = predict(chart.resources, parameters(model="score2", data=bundle))
    assert risk_of(instance) == stored


def test_data_that_is_refused() -> None:
    patient = {"resource": {"resourceType": "Patient", "id": "q"}}
    empty: dict[str, Any] = {"resourceType": "Bundle", "type": "collection"}
    for bundle in (empty, empty | {"entry": [patient, {"resource": {**patient["resource"]}}]}):
        with pytest.raises(Unprocessable):
            predict([], parameters(data=bundle), level="type")
    with pytest.raises(Unprocessable, match="another"):
        predict(complete().resources, parameters(data=empty | {"entry": [patient]}))
    with pytest.raises(NotFound):
        predict([], parameters(data=empty | {"entry": [patient]}))
    with pytest.raises(BadRequest, match="'data' is required"):
        predict([], query="model=score2", level="type")


def _about(risk: dict[str, Any]) -> dict[str, Any]:
    """A contained resource bears no labels, but may bear tags."""
    inner = {**risk, "id": "r", "meta": {"tag": risk["meta"]["tag"]}}
    holder = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "#r"}}
    return {**holder, "contained": [inner]}


def test_what_is_hypothetical_is_marked_and_never_stored() -> None:
    world, what_if = World(complete().resources), {"smoker": ("valueBoolean", True)}
    with pytest.raises(BadRequest, match="never stored"):
        predict([], parameters(model="score2", override=what_if, store=True), world=world)
    bundle = predict([], parameters(model="score2", override=what_if), world=world)
    (risk,) = of_type(bundle, "RiskAssessment")
    assert [tag["code"] for tag in risk["meta"]["tag"]] == ["hypothetical"]
    kept = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": risk}]}
    for sent in (risk, kept, _about(risk)):
        fresh = {name: value for name, value in sent.items() if name != "id"}
        key = Key(sent["resourceType"], "sent-back")
        with pytest.raises(Unprocessable, match="never stored"):
            Road.runner.run(world.system.write([Draft("POST", key, fresh)]))
    (plain,) = of_type(predict([], parameters(model="score2"), world=world), "RiskAssessment")
    assert "tag" not in plain["meta"]
