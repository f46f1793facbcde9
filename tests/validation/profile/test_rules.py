"""Each kind of rule that a profile may have, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.profile.small import (
    BASE,
    CATEGORY,
    LOINC,
    NAMED,
    SUBJECT,
    URL,
    Json,
    bundle,
    coding,
    concept,
    element,
    entry,
    found,
    observation,
    profile,
    sliced,
    target,
)
from tests.validation.profile.world import World


def test_fixed_is_exact_and_a_pattern_is_not() -> None:
    code = "Observation.code"
    for kind, more in (("pattern", []), ("fixed", [("value", code)])):
        own = profile("Observation", element(code, **{f"{kind}CodeableConcept": concept("a")}))
        world = World(more=[own])
        assert found(world, observation(code=concept("a"))) == []
        assert found(world, observation(code=concept("a") | {"text": "x"})) == more
        assert found(world, observation(code=concept("b"))) == [("value", code)]


def test_limits() -> None:
    own = profile(
        "Patient",
        element("Patient.name.family", maxLength=3),
        element("Patient.birthDate", minValueDate="1900-01-01", maxValueDate="2000-01-01"),
        element("Patient.multipleBirthInteger", maxValueInteger=9),
    )
    world = World(more=[own])
    name = [{"family": "Long"}]
    bad = {"resourceType": "Patient", "name": name, "birthDate": "1899-12-31"}
    assert found(world, bad | {"multipleBirthInteger": 10}) == [
        ("too-long", "Patient.name[0].family"),
        ("value", "Patient.birthDate"),
        ("value", "Patient.multipleBirth.ofType(integer)"),
    ]
    assert found(world, {"resourceType": "Patient", "birthDate": "1900-01-01"}) == []


def extension(url: str, context: str, kind: str = "element", **more: Any) -> Json:
    return profile(
        "Extension",
        element("Extension", **more),
        element("Extension.url", fixedUri=url),
        element("Extension.value[x]", min=1, type=[{"code": "string"}]),
        url=url,
        context=[{"type": kind, "expression": context}],
    )


@pytest.mark.parametrize(
    ("kind", "context", "fits"),
    [
        ("element", "Patient", True),
        ("element", "DomainResource", True),
        ("element", "Resource", True),
        ("element", "Element", True),
        ("element", "Observation", False),
        ("element", "Patient.name", False),
        ("fhirpath", "Patient", True),
        ("fhirpath", "Patient.name", False),
        ("extension", "urn:outer", False),
    ],
)
def test_contexts(kind: str, context: str, fits: bool) -> None:
    world = World(more=[extension("urn:x", context, kind)])
    resource = {"resourceType": "Patient", "extension": [{"url": "urn:x", "valueString": "a"}]}
    at = [] if fits else [("extension", "Patient.extension[0]")]
    assert [(i.code, i.expression) for i in world.errors(resource)] == at


def test_contexts_of_elements_datatypes_and_primitives() -> None:
    given = [{"url": "urn:x", "valueString": "a"}]
    for context, resource, at in (
        ("Patient.name", {"name": [{"extension": given}]}, "Patient.name[0]"),
        ("HumanName", {"name": [{"extension": given}]}, "Patient.name[0]"),
        ("HumanName.given", {"name": [{"_given": [{"extension": given}]}]}, "x"),
        ("Patient.birthDate", {"_birthDate": {"extension": given}}, "x"),
        ("Patient.contact.name", {"contact": [{"name": {"extension": given}}]}, "x"),
        ("date", {"_birthDate": {"extension": given}}, "x"),
    ):
        assert at
        whole = {"resourceType": "Patient", **resource}
        assert World(more=[extension("urn:x", context)]).errors(whole) == [], context
        assert World(more=[extension("urn:x", "Observation.code")]).errors(whole), context


def test_a_known_extension_is_held_against_its_definition() -> None:
    world = World(more=[extension("urn:x", "Patient")])
    bad = {"resourceType": "Patient", "extension": [{"url": "urn:x", "valueInteger": 1}]}
    assert [(i.code, i.expression) for i in world.errors(bad)] == [
        ("structure", "Patient.extension[0].value.ofType(integer)")
    ]


def test_modifiers() -> None:
    world = World(more=[extension("urn:x", "Patient", isModifier=True)])
    given = [{"url": "urn:x", "valueString": "a"}]
    assert world.errors({"resourceType": "Patient", "modifierExtension": given}) == []
    [fault] = world.errors({"resourceType": "Patient", "extension": given})
    assert fault.code == "extension"
    unknown = [{"url": "urn:unknown", "valueString": "a"}]
    [told] = world.issues({"resourceType": "Patient", "modifierExtension": unknown})
    assert told.severity == "warning" and told.code == "extension"
    assert world.issues({"resourceType": "Patient", "extension": unknown}) == []


def test_targets_inside_conform() -> None:
    world = World(more=[profile("Observation", target("urn:named")), NAMED])
    inside = {"resourceType": "Patient", "id": "p"}
    whole = observation(contained=[inside], subject={"reference": "#p"})
    at = [("value", f"{SUBJECT}.reference")]
    assert found(world, whole) == at
    inside["name"] = [{"text": "A"}]  # type: ignore[assignment]
    assert found(world, whole) == []
    assert found(world, observation(subject={"reference": "Group/1"})) == at
    assert found(world, observation(subject={"reference": "Patient/1"})) == []
    assert found(world, observation(subject={"type": "Group", "display": "x"})) == [
        ("value", f"{SUBJECT}.type")
    ]


@pytest.mark.parametrize(
    ("ways", "reference", "fits"),
    [
        (["contained"], "#p", True),
        (["contained"], "Patient/1", False),
        (["referenced"], "Patient/1", True),
        (["referenced"], "#p", False),
        (["contained", "referenced"], "Patient/1", True),
    ],
)
def test_aggregation(ways: list[str], reference: str, fits: bool) -> None:
    world = World(more=[profile("Observation", target(BASE + "Patient", aggregation=ways))])
    inside = {"resourceType": "Patient", "id": "p"}
    whole = observation(subject={"reference": reference})
    if reference == "#p":
        whole["contained"] = [inside]
    assert found(world, whole) == ([] if fits else [("value", f"{SUBJECT}.reference")])


def test_what_is_to_be_bundled_is_in_the_bundle() -> None:
    own = profile("Observation", target(BASE + "Patient", aggregation=["bundled"]))
    world = World(more=[own])
    about = observation(subject={"reference": "Patient/1"}, meta={"profile": [URL]})
    assert found(world, about) == []
    patient = entry({"resourceType": "Patient"}, "1")
    assert world.errors(bundle(entry(about, "o"), patient)) == []
    [fault] = world.errors(bundle(entry(about, "o")))
    assert fault.expression == "Bundle.entry[0].resource.subject.reference"


def test_documents_hold_what_they_refer_to() -> None:
    world = World()
    known, unknown = (f"urn:uuid:{n}0000000-0000-4000-8000-000000000000" for n in "12")
    about = observation(subject={"reference": known}, encounter={"reference": unknown})
    whole = bundle({"fullUrl": known, "resource": {"resourceType": "Patient"}}, entry(about, "o"))
    assert [(i.code, i.expression) for i in world.errors(whole)] == [
        ("not-found", "Bundle.entry[1].resource.encounter.reference")
    ]


def test_invariants_may_ask_for_more() -> None:
    """memberOf, conformsTo and resolve."""
    colours = {
        "resourceType": "ValueSet",
        "url": "urn:colours",
        "compose": {"include": [{"system": LOINC, "concept": [{"code": "a"}]}]},
    }

    def rule(expression: str) -> Json:
        row = {"key": "own-1", "severity": "error", "human": "own", "expression": expression}
        return profile("Observation", element("Observation", constraint=[row]))

    inside = {"resourceType": "Patient", "id": "p"}
    whole = observation(code=concept("b"), contained=[inside], subject={"reference": "#p"})
    for expression in (
        "code.memberOf('urn:colours')",
        "subject.resolve().conformsTo('urn:named')",
        "subject.resolve().name.exists()",
        "%resource.contained.first().name.exists()",
    ):
        world = World(more=[rule(expression), colours, NAMED])
        assert found(world, whole) == [("invariant", "Observation")], expression
    inside["name"] = [{"text": "A"}]  # type: ignore[assignment]
    whole["code"] = concept("a")
    for expression in (
        "code.memberOf('urn:colours')",
        "subject.resolve().conformsTo('urn:named')",
        "subject.resolve().name.exists()",
    ):
        assert found(World(more=[rule(expression), colours, NAMED]), whole) == [], expression


def test_an_invariant_that_cannot_be_evaluated_is_told() -> None:
    row = {"key": "own-1", "severity": "error", "human": "own", "expression": "code.magic("}
    world = World(more=[profile("Observation", element("Observation", constraint=[row]))])
    assert found(world, observation()) == []
    assert found(world, observation(), "warning") == [("not-supported", "Observation")]


def test_bindings_by_strength() -> None:
    colours = {
        "resourceType": "ValueSet",
        "url": "urn:colours",
        "compose": {"include": [{"system": LOINC, "concept": [{"code": "a"}]}]},
    }
    code = "Observation.code"
    for strength, severity in (
        ("required", "error"),
        ("extensible", "warning"),
        ("preferred", ""),
        ("example", ""),
    ):
        binding = {"strength": strength, "valueSet": "urn:colours"}
        world = World(more=[profile("Observation", element(code, binding=binding)), colours])
        assert world.issues(observation(code=concept("a")), URL) == []
        issues = world.issues(observation(code=concept("b")), URL)
        assert [i.severity for i in issues] == ([severity] if severity else []), strength


def test_what_cannot_be_told_is_no_error() -> None:
    """A code system that is not here: a required code is information; a slice stays open."""
    opaque = {
        "resourceType": "ValueSet",
        "url": "urn:opaque",
        "compose": {
            "include": [
                {
                    "system": "http://snomed.info/sct",
                    "filter": [{"property": "concept", "op": "is-a", "value": "1"}],
                },
                {"system": LOINC, "concept": [{"code": "a"}]},
            ]
        },
    }
    binding = {"strength": "required", "valueSet": "urn:opaque"}
    own = profile(
        "Observation",
        sliced(CATEGORY, "pattern", "$this", rules="closed"),
        element(f"{CATEGORY}:known", min=1, binding=binding),
    )
    world = World(more=[own, opaque])
    foreign = {"coding": [{"system": "http://snomed.info/sct", "code": "2"}]}
    assert found(world, observation(category=[foreign])) == []
    assert found(world, observation(category=[concept("a")])) == []
    assert found(world, observation(category=[concept("b")])) != []


def test_profiles_of_profiles_and_circles() -> None:
    lower = profile("Patient", element("Patient.gender", min=1), url=URL)
    lower["baseDefinition"] = "urn:named"
    world = World(more=[lower, NAMED])
    assert found(world, {"resourceType": "Patient"}) == [
        ("required", "Patient.name"),
        ("required", "Patient.gender"),
    ]
    for one in (lower, round_ := profile("Patient", url="urn:round")):
        one["baseDefinition"] = "urn:round" if one is lower else URL
    circle = World(more=[lower, round_])
    assert found(circle, {"resourceType": "Patient"}) == []
    assert found(circle, {"resourceType": "Patient"}, "warning") == [("not-supported", "Patient")]


CODE = "Observation.code"


@pytest.mark.parametrize(
    "bad",
    [
        element("Observation.magic", min=1),
        element("Observation.code.magic", min=1),
        element("Patient.name"),
        element(CODE, max="many"),
        element(CODE, type=[{"code": "CodeableConcept", "profile": ["urn:none"]}]),
        element(f"{CODE}.coding:a", slicing={"rules": "open"}),
        sliced(f"{CODE}.coding", "value", "magic.path", rules="open"),
        sliced(f"{CODE}.coding", "magic", "code", rules="open"),
        sliced(f"{CODE}.coding", "value", "code.where(", rules="open"),
        sliced(f"{CODE}.coding", "value", "", rules="open"),
        element(f"{CODE}.coding:a/b/c", min=1),
        element("..", min=1),
        element("", min=1),
        element("Observation.value[x]:valueMagic.unit", min=1),
    ],
)
def test_definitions_that_are_wrong_are_no_failure(bad: Json) -> None:
    more = element(f"{CODE}.coding:a", min=1, fixedCoding=coding("a"))
    outer = extension("urn:x", "Observation")
    outer["differential"]["element"].append(bad)
    for definition in (profile("Observation", bad), profile("Observation", bad, more), outer):
        world = World(more=[definition])
        whole = observation(code=concept("a"), extension=[{"url": "urn:x", "valueString": "a"}])
        for issue in world.issues(whole, URL):
            assert issue.code and issue.diagnostics and issue.expression


def test_profiles_without_end_are_refused() -> None:
    """Each extension holds one that conforms to the same."""
    own = profile(
        "Extension",
        element("Extension.extension", type=[{"code": "Extension", "profile": ["urn:x"]}]),
        url="urn:x",
        context=[{"type": "element", "expression": "Element"}],
    )
    deep: Json = {"url": "urn:x", "valueString": "a"}
    for _ in range(60):
        deep = {"url": "urn:x", "extension": [deep]}
    world = World(more=[own])
    issues = world.issues({"resourceType": "Patient", "extension": [deep]})
    assert [one.code for one in issues] == ["too-costly"]


def test_a_resource_that_contains_itself_by_profile_ends() -> None:
    """A profile whose target has to conform to the same profile."""
    own = profile(
        "Patient",
        element("Patient.link.other", type=[{"code": "Reference", "targetProfile": [URL]}]),
    )
    world = World(more=[own])
    one = {
        "resourceType": "Patient",
        "id": "a",
        "link": [{"type": "refer", "other": {"reference": "Patient/a"}}],
    }
    assert world.errors(bundle(entry(one, "a")), BASE + "Bundle") == []
    one["meta"] = {"profile": [URL]}
    assert world.errors(bundle(entry(one, "a"))) == []


def test_contained_resources_are_held_against_what_they_claim() -> None:
    world = World(more=[NAMED])
    inside = {"resourceType": "Patient", "id": "p", "meta": {"profile": ["urn:named"]}}
    whole = observation(contained=[inside], subject={"reference": "#p"})
    [fault] = world.errors(whole)
    assert fault.expression == "Observation.contained[0].name"


def test_a_claim_that_is_not_known_is_a_warning() -> None:
    resource = {"resourceType": "Patient", "meta": {"profile": ["urn:none", BASE + "Observation"]}}
    issues = World().issues(resource)
    assert [(i.severity, i.code) for i in issues] == [
        ("warning", "not-found"),
        ("error", "structure"),
    ]
