"""Profiles that do not load, rules that fail, and configuration files of others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable
from operations.deid.engine import Deidentifier
from operations.deid.profile import FOLDER, Profile, ProfileError, Rule, parse, read
from operations.deid.run import Run
from operations.deid.transforms import registry
from operations.deid.transforms.base import Method

SECRET = "Garza"


def profile(*rules: dict[str, Any], **more: Any) -> Profile:
    document = {"url": "https://h.example/test", "fhirPathRules": list(rules), **more}
    return parse("test", document)


def apply(made: Profile, resource: Json) -> Json:
    return Deidentifier(made, load()).resource(resource, Run(2026))


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "fhirPathRules is missing"),
        ({"fhirPathRules": [], "processingErrors": "keep"}, "processingErrors"),
        ({"fhirPathRules": [], "default": "guess"}, "default"),
        ({"fhirPathRules": [], "fhirVersion": "Stu3"}, "fhirVersion"),
        ({"fhirPathRules": [{"path": "Patient.name"}]}, "rule 0: path and method"),
    ],
)
def test_a_broken_file_does_not_load(document: Any, fault: str) -> None:
    with pytest.raises(ProfileError, match=fault):
        parse("test", document)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"path": "Patient.nmae", "method": "redact"}, "child nmae finds no element"),
        (
            {"path": "HealthcareService.notAvaliable.description", "method": "redact"},
            "notAvaliable",
        ),
        ({"path": "Patientt.name", "method": "redact"}, "Patientt is no resource type"),
        ({"path": "nodesByType('Humanname')", "method": "redact"}, "Humanname finds no element"),
        ({"path": "nodesByName('famly')", "method": "redact"}, "famly finds no element"),
        ({"path": "nodesByType('Address').town", "method": "redact"}, "town finds no element"),
        ({"path": "Observation.value as Quantum", "method": "redact"}, "Quantum is no type"),
        ({"path": "Patient.deceased as Quantity", "method": "redact"}, "finds no element"),
        ({"path": "Patient.name.first()", "method": "redact"}, "first\\(\\) has no place"),
        ({"path": "Patient.name[0]", "method": "redact"}, "not a rule path"),
        ({"path": "Patient.name |", "method": "redact"}, "rule 0"),
        ({"path": "Patient.gender.where($this = 'male')", "method": "keep"}, "primitive"),
        ({"path": "Patient.name", "method": "remove"}, "unknown method remove"),
        ({"path": "Patient.name", "method": "redact", "shift": 1}, "redact knows no shift"),
        ({"path": "Patient.name", "method": "keep", "pattern": "("}, "regular expression"),
        ({"path": "Patient.name", "method": "keep", "values": "a"}, "list of strings"),
        ({"path": "Patient.name", "method": "substitute"}, "replaceWith is missing"),
        ({"path": "Patient.birthDate", "method": "dateGeneralise", "to": "week"}, "to is year"),
        ({"path": "nodesByType('Address').postalCode", "method": "zip3"}, "is empty"),
        ({"path": "Patient.name", "method": "redact", "leave": "x"}, "leave is"),
    ],
)
def test_a_rule_that_means_nothing_does_not_load(rule: dict[str, Any], fault: str) -> None:
    with pytest.raises(ProfileError, match=fault):
        Deidentifier(profile(rule), load())


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ProfileError) as caught:
        Deidentifier(
            profile(
                {"path": "Patient.nmae", "method": "redact"},
                {"path": "Patient.name", "method": "remove"},
            ),
            load(),
        )
    assert len(caught.value.findings) == 2


def test_every_shipped_profile_says_why() -> None:
    for path in FOLDER.glob("*.json"):
        shipped = read(path)
        assert shipped.rules and all(rule.why for rule in shipped.rules), path.name


class Failing(Method):
    """A method that fails on a value, naming the value."""

    def __init__(self, given: Any) -> None:
        pass

    def leaf(self, site: Any) -> Any:
        def fail(value: Any, _around: Json, _run: Run) -> Any:
            raise KeyError(value)

        return fail


def test_a_rule_that_throws_gives_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METHODS", {**registry.METHODS, "fail": Failing})
    made = profile({"path": "nodesByType('HumanName').family", "method": "fail"}, default="keep")
    with pytest.raises(Unprocessable) as caught:
        apply(made, {"resourceType": "Patient", "name": [{"family": SECRET}]})
    assert SECRET not in str(caught.value.outcome())
    assert caught.value.__suppress_context__


def test_a_condition_that_throws_gives_no_data() -> None:
    made = profile({"path": "Patient.name.where(family + 1 > 2)", "method": "keep"})
    with pytest.raises(Unprocessable) as caught:
        apply(made, {"resourceType": "Patient", "name": [{"family": SECRET}]})
    assert SECRET not in str(caught.value.outcome())


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "active": SECRET},
        {"resourceType": "Patient", "multipleBirthInteger": True},
        {"resourceType": "Patient", "name": {"family": SECRET}},
        {"resourceType": "Patient", "name": [SECRET]},
        {"resourceType": "Patient", "birthDate": ["1970-01-01"]},
        {"resourceType": "Patient", "_birthDate": SECRET},
        {"resourceType": "Patient", "contained": [{"resourceType": SECRET}]},
        {"resourceType": "Patient", "contained": [{}]},
        {"resourceType": SECRET},
        {},
    ],
)
def test_what_is_not_fhir_is_refused_and_not_quoted(resource: Json) -> None:
    with pytest.raises(Unprocessable) as caught:
        apply(read(FOLDER / "safe-harbor.json"), resource)
    assert SECRET not in str(caught.value.outcome())


def test_an_unknown_element_goes_and_is_counted_without_its_name() -> None:
    run = Run(2026)
    made = Deidentifier(profile(default="keep"), load())
    source = {"resourceType": "Patient", "active": True, SECRET: SECRET, "_x": {"y": SECRET}}
    assert SECRET not in str(made.resource(source, run))
    assert {path: n for path, touch, n in run.tally.lines() if touch.what == "removed"} == {
        "Patient.(unknown)": 2
    }


PATIENT = {
    "resourceType": "Patient",
    "active": True,
    "name": [{"use": "official", "family": "Ivanenko"}, {"use": "old", "family": SECRET}],
    "address": [{"city": "Kyiv", "country": "UA"}],
}


def test_first_match_wins_over_a_node_and_what_is_above() -> None:
    rules = [
        {"path": "nodesByType('HumanName').use", "method": "keep"},
        {"path": "Patient.name", "method": "redact"},
        {"path": "nodesByType('HumanName').family", "method": "keep"},
    ]
    made = profile(*rules, default="keep")
    assert apply(made, PATIENT)["name"] == [{"use": "official"}, {"use": "old"}]


def test_conditions_are_asked_of_their_own_node() -> None:
    rule = {"path": "Patient.name.where(use = 'old').family", "method": "redact"}
    names = apply(profile(rule, default="keep"), PATIENT)["name"]
    assert names == [{"use": "official", "family": "Ivanenko"}, {"use": "old"}]


def test_microsofts_rules_load_in_their_own_words() -> None:
    """The forms of path and method that their configuration files use, in their cases."""
    rules = [
        {"path": "nodesByType('Extension')", "method": "redact"},
        {"path": "Organization.address", "method": "keep"},
        {"path": "nodesByType('Address').country", "method": "keep"},
        {"path": "FamilyMemberHistory.condition.onset as Age", "method": "Redact"},
        {"path": "Task.input.value", "method": "redact"},
        {"path": "Patient.nodesByType('Address')", "method": "redact"},
        {"path": "Patient.name.family", "method": "substitute", "replaceWith": "Doe"},
        {"path": "Patient.extension('http://h.example/x').value", "method": "keep"},
    ]
    made = profile(*rules, default="keep", fhirVersion="R4", processingErrors="raise")
    output = apply(made, PATIENT)
    assert output["address"] == [{"country": "UA"}]
    assert output["name"][1] == {"use": "old", "family": "Doe"}


def test_a_profile_is_known_by_code_and_canonical() -> None:
    shipped = read(FOLDER / "safe-harbor.json")
    assert shipped.named("safe-harbor") and shipped.named(shipped.url)
    assert shipped.named(f"{shipped.url}|{shipped.version}")
    assert not shipped.named(f"{shipped.url}|0.0.0")
    assert replace(shipped, rules=(Rule("Patient.name", "redact"),)).named("safe-harbor")
