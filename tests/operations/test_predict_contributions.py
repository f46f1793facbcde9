"""What is told of contributions: exact ones sum up, on every shipped model."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from predicting import Road

from operations.models.contributions import CONTRIBUTION, Explanation, extension, occluding
from operations.models.kinds import Row
from operations.models.manifest import Attribution, Feature
from operations.models.package import ModelPackage

PACKAGES = [version.package for version in Road.models.versions.values()]
POINTS, TOLERANCE = 40, 1e-8


def somebody(package: ModelPackage, dice: random.Random) -> list[Row]:
    """A patient of the population, at random."""
    return [Row(f, _value(f, dice)) for f in package.features.feature]


def _value(feature: Feature, dice: random.Random) -> bool | str | Decimal:
    if feature.kind == "choice":
        return dice.choice(list(feature.choices))
    if feature.boolean:
        return dice.random() < 0.5
    low, high = feature.population or feature.plausible or (Decimal(0), Decimal(1))
    if feature.reference is not None:  # near enough that a probability is not 1
        low, high = max(low, feature.reference / Decimal(2)), min(high, feature.reference * 2)
    value = Decimal(str(round(dice.uniform(float(low), float(high)), 3)))
    return value.to_integral_value() if feature.kind == "age" else value


def explained(package: ModelPackage, rows: list[Row]) -> tuple[Explanation, ...]:
    asked = occluding(package, rows)
    outputs = Road.runner.run(Road.runtime.run(package, asked.inputs))
    return asked.explained(package, outputs)


def off(one: Explanation) -> float:
    """By how much base and contributions miss the total."""
    return abs(one.base + sum(part.added for part in one.parts) - one.total)


def worst(package: ModelPackage) -> float:
    dice = random.Random(8)
    found = [one for _ in range(POINTS) for one in explained(package, somebody(package, dice))]
    assert found
    return max(off(one) for one in found)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.id)
def test_exact_contributions_sum_up(package: ModelPackage) -> None:
    named = [o for o in package.features.output if o.attribution is not None]
    if all(o.attribution and o.attribution.method != "occlusion" for o in named):
        assert worst(package) < TOLERANCE


def test_the_sum_can_fail() -> None:
    """Without its groups PREVENT is no sum of its features."""
    package = next(p for p in PACKAGES if p.card.name == "prevent")
    alone = tuple(msgspec.structs.replace(f, group="") for f in package.features.feature)
    features = msgspec.structs.replace(package.features, feature=alone)
    assert worst(replace(package, features=features)) > TOLERANCE


def test_a_model_that_names_nothing_is_told_by_occlusion() -> None:
    package = next(p for p in PACKAGES if p.card.name == "score2")
    outputs = tuple(msgspec.structs.replace(o, attribution=None) for o in package.features.output)
    plain = replace(package, features=msgspec.structs.replace(package.features, output=outputs))
    (one,) = explained(plain, somebody(plain, random.Random(1)))
    assert one.attribution == Attribution("occlusion")
    told = extension(one)
    assert told["url"] == CONTRIBUTION
    assert {"url": "exact", "valueBoolean": False} in told["extension"]


def test_without_references_there_is_one_row_and_nothing_to_tell() -> None:
    package = next(p for p in PACKAGES if p.card.name == "score2")
    bare = tuple(msgspec.structs.replace(f, reference=None) for f in package.features.feature)
    plain = replace(package, features=msgspec.structs.replace(package.features, feature=bare))
    rows = somebody(plain, random.Random(1))
    assert {len(column) for column in occluding(plain, rows).inputs.values()} == {1}
    assert explained(plain, rows) == ()


def test_a_point_score_tells_its_points() -> None:
    package = next(p for p in PACKAGES if p.card.name == "cha2ds2-vasc")
    given: dict[str, Any] = {"age": Decimal(76), "sex": "female", "hypertension": True}
    rows = [
        Row(f, given.get(f.name, False if f.boolean else Decimal(0)))
        for f in package.features.feature
    ]
    (one,) = explained(package, rows)
    points = {part.features[0][0].name: part.added for part in one.parts if part.added}
    assert points == {"age": 2, "sex": 1, "hypertension": 1}
    assert (one.base, one.total) == (0, 4)


def test_at_the_end_of_a_scale_nothing_is_told() -> None:
    package = next(p for p in PACKAGES if p.card.name == "score2")
    rows = somebody(package, random.Random(1))
    asked = occluding(package, rows)
    count = len(next(iter(asked.inputs.values())))
    assert asked.explained(package, {"cvd-10y": [1.0] * count}) == ()
    assert asked.explained(package, {"cvd-10y": [0.0] * count}) == ()
