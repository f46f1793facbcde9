"""What each rule of safe-harbor does, and that no rule is there for nothing.

The expectations follow 45 CFR 164.514(b)(2)(i), letters (A) to (R), and FHIR's invariants.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import rule_probes
import rule_probes_values
from rule_words import ANONYED, DAR, REDACTED

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from operations.deid.engine import Deidentifier
from operations.deid.profile import FOLDER, Profile, read
from operations.deid.run import Run

SAFE_HARBOR = read(FOLDER / "safe-harbor.json")
PROBES = rule_probes.PROBES | rule_probes_values.PROBES
assert len(PROBES) == len(rule_probes.PROBES) + len(rule_probes_values.PROBES)

REDUNDANT = {
    "nodesByType('Extension')": "an extension whose url no rule keeps goes as a whole by default; "
    "the rule saves the look inside",
}
"""Rules whose removal changes nothing, by path, and why they are there."""


def apply(profile: Deidentifier, resource: Json) -> Json:
    numbers = count(1)
    run = Run(2026, new_id=lambda: f"new-{next(numbers)}")
    run.learn(resource)
    result = profile.resource(resource, run)
    assert result.pop("resourceType") == resource["resourceType"]
    security = result["meta"].pop("security")
    assert security[-2:] == [ANONYED, REDACTED]
    if security[:-2]:
        result["meta"]["security"] = security[:-2]
    if not result["meta"]:
        del result["meta"]
    return result


@pytest.fixture(scope="module")
def safe_harbor() -> Deidentifier:
    return Deidentifier(SAFE_HARBOR, load())


@pytest.mark.parametrize("name", PROBES)
def test_rule(name: str, safe_harbor: Deidentifier) -> None:
    resource, expected = PROBES[name]
    assert apply(safe_harbor, resource) == expected


def without(profile: Profile, index: int) -> Profile:
    return replace(profile, rules=profile.rules[:index] + profile.rules[index + 1 :])


@pytest.mark.parametrize("index", range(len(SAFE_HARBOR.rules)))
def test_a_profile_without_the_rule_is_caught(index: int) -> None:
    rule = SAFE_HARBOR.rules[index]
    mutant = Deidentifier(without(SAFE_HARBOR, index), load())
    caught = any(apply(mutant, resource) != expected for resource, expected in PROBES.values())
    assert caught != (rule.path in REDUNDANT), rule.path


def test_what_no_rule_names_goes() -> None:
    """Fail closed: without any rule only the type and the labels are left."""
    bare = Deidentifier(replace(SAFE_HARBOR, rules=()), load())
    for resource, _ in PROBES.values():
        left = apply(bare, resource)
        assert not _values(left), left


def _values(node: Any) -> list[Any]:
    """Values besides data-absent-reasons."""
    if isinstance(node, list):
        return [value for item in node for value in _values(item)]
    if isinstance(node, dict):
        if node.get("url") == DAR:
            return []
        return [v for key, item in node.items() if key != "resourceType" for v in _values(item)]
    return [node]
