"""Where the hits are: de-identification and patches change them there."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import (
    Budget,
    Context,
    FhirPathBudgetError,
    FhirPathError,
    FhirPathNotSupported,
    Services,
    compile,
    locate,
)

R4 = Context(model=r4_model())
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Clinic"}],
    "name": [
        {"family": "Windsor", "given": [None, "James"], "_given": [{"id": "g0"}]},
        {"family": "Chalmers"},
    ],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "urn:time", "valueDateTime": "1974-12-25T14:35:45Z"}]},
    "deceasedBoolean": False,
    "managingOrganization": {"reference": "#o"},
}


@pytest.mark.parametrize("context", [Context(), R4], ids=["untyped", "typed"])
@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ("Patient.name.family", ["Patient.name[0].family", "Patient.name[1].family"]),
        ("name.given", ["Patient.name[0].given[0]", "Patient.name[0].given[1]"]),
        ("name.given.id", ["Patient.name[0].given[0].id"]),
        ("deceased", ["Patient.deceased"]),
        ("birthDate.extension('urn:time').value", ["Patient.birthDate.extension[0].value"]),
        ("contained.name", ["Patient.contained[0].name"]),
        ("managingOrganization.resolve().name", ["Patient.contained[0].name"]),
        ("name.where(given.exists()).family", ["Patient.name[0].family"]),
    ],
)
def test_paths(context: Context, expression: str, paths: list[str]) -> None:
    assert [node.path for node in locate(expression, PATIENT, context)] == paths


@pytest.mark.parametrize("context", [Context(), R4], ids=["untyped", "typed"])
def test_hits_can_be_changed_in_place(context: Context) -> None:
    patient = deepcopy(PATIENT)
    for node in locate("Patient.name.family | deceased", patient, context):
        assert node.container is not None
        node.container[node.key] = "gone"
    (second,) = locate("name.given[1]", patient, context)
    assert second.container is not None
    assert second.index == 1
    second.container[second.key][second.index] = "gone"
    (extension,) = locate("birthDate.extension.value", patient, context)
    assert extension.container is not None
    del extension.container[extension.key]
    assert [n["family"] for n in patient["name"]] == ["gone", "gone"]
    assert patient["name"][0]["given"] == [None, "gone"]
    assert patient["deceasedBoolean"] == "gone"
    assert patient["_birthDate"] == {"extension": [{"url": "urn:time"}]}


def test_paths_find_the_node_again() -> None:
    for node in compile("descendants()").locate(PATIENT, R4):
        (again,) = locate(node.path, PATIENT, R4)
        assert again.value is node.value
        assert again.type == node.type


def test_types_come_from_the_definitions() -> None:
    types = {node.path: node.type for node in locate("descendants()", PATIENT, R4)}
    assert types["Patient.name[0].given[1]"] == "string"
    assert types["Patient.deceased"] == "boolean"
    assert types["Patient.contained[0]"] == "Organization"
    assert types["Patient.birthDate.extension[0].value"] == "dateTime"


def test_elements_have_no_type_without_definitions() -> None:
    assert compile("deceased is boolean").evaluate(PATIENT) == [True]
    assert compile("Patient.is(Patient)").evaluate(PATIENT) == [True]
    with pytest.raises(FhirPathNotSupported):
        compile("name.ofType(HumanName)").evaluate(PATIENT)


def test_an_evaluation_can_start_at_a_node() -> None:
    (first, _) = locate("name", PATIENT, R4)
    assert compile("family").evaluate(first, R4) == ["Windsor"]
    assert compile("%resource.birthDate").evaluate(first, R4) == ["1974-12-25"]
    assert compile("%context.family").evaluate(first, R4) == ["Windsor"]


def test_strict_names() -> None:
    strict = Context(model=r4_model(), strict=True)
    with pytest.raises(FhirPathError):
        compile("Patient.nmae").evaluate(PATIENT, strict)
    assert compile("Patient.nmae").evaluate(PATIENT, R4) == []


def test_services() -> None:
    other = {"resourceType": "Practitioner", "id": "p"}
    found = Services(resolve={"Practitioner/p": other}.get)
    subject = {"resourceType": "Basic", "author": {"reference": "Practitioner/p"}}
    expression = compile("author.resolve().id")
    assert expression.evaluate(subject, Context(services=found)) == ["p"]
    with pytest.raises(FhirPathNotSupported):
        expression.evaluate(subject)


@pytest.mark.parametrize(
    ("expression", "budget"),
    [
        ("name.given.count()", Budget(steps=3)),
        ("descendants()", Budget(items=5)),
        ("'aaaa' + 'aaaa'", Budget(characters=7)),
        ("'aaaa'.replace('a', 'aaaa')", Budget(characters=7)),
        ("'aaaa'.replaceMatches('a', 'aaaa')", Budget(characters=7)),
        ("1.repeat($this + 1)", Budget(steps=10_000)),
        ("('x' | 'y').aggregate($total | $this & 'aaaa', 'aaaa').join('')", Budget(characters=9)),
    ],
)
def test_budgets(expression: str, budget: Budget) -> None:
    with pytest.raises(FhirPathBudgetError):
        compile(expression).evaluate(PATIENT, Context(budget=budget))
