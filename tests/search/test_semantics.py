"""What searches find: https://hl7.org/fhir/R4/search.html, section by section.

Each row is (query, ids that match), over the resources of ``semantics``.
"""

from __future__ import annotations

import pytest

from fhir_server.model.problem import BadRequest
from fhir_server.search.values import fold
from tests.search.semantics import PEOPLE, PEOPLE_ROWS, VALUE_ROWS, VALUES

from .world import parse


@pytest.mark.parametrize(("query", "expected"), PEOPLE_ROWS)
def test_people(query: str, expected: list[str]) -> None:
    assert PEOPLE.search(query) == expected


@pytest.mark.parametrize(("query", "expected"), VALUE_ROWS)
def test_values(query: str, expected: list[str]) -> None:
    assert VALUES.search(query) == expected


REFUSED = [
    ("Patient?birthdate=2024-13", "birthdate"),
    ("Patient?birthdate=xx2024", "birthdate"),
    ("Patient?birthdate=2023-02-30", "birthdate"),
    ("Patient?birthdate=", "empty"),
    ("Patient?name=a\\b", "backslash"),
    ("Patient?identifier=a\\", "backslash"),
    ("Patient?gender=male,", "empty"),
    ("Patient?gender=|", "gender"),
    ("Patient?gender=a|b|c", "gender"),
    ("Patient?gender:foo=male", ":foo"),
    ("Patient?gender:text=male", ":text"),
    ("Patient?identifier:in=http://x", ":in"),
    ("Patient?gender:in=http://x", "http://x"),
    ("Patient?identifier:of-type=a|b", "type code"),
    ("Patient?gender:of-type=a|b|c", ":of-type"),
    ("Patient?_profile:below=urn:x", ":below"),
    ("Patient?gender:missing=maybe", "missing"),
    ("Patient?name:not=x", ":not"),
    ("Patient?birthdate:exact=2024", ":exact"),
    ("Patient?_foo=1", "_foo"),
    ("Patient?name:=x", "name:"),
    ("Patient?_id:=x", "_id:"),
    ("Patient?general-practitioner:.name=x", "general-practitioner:"),
    ("Patient?_id=a b", "_id"),
    ("Patient?_lastUpdated=yesterday", "_lastUpdated"),
    ("Patient?phonetic=x", "phonetic"),
    ("Patient?_text=(x", "_text"),
    ("Patient?_text=x)", "_text"),
    ("Patient?_text=and", "_text"),
    ("Patient?_text=x or", "_text"),
    ("Patient?_text=-", "_text"),
    ("Patient?_text=*", "_text"),
    ("Patient?_text=x*y", "_text"),
    ('Patient?_text="x', "_text"),
    ("Patient?_text:exact=x", "_text"),
    ("Patient?_text:missing=true", "_text"),
    ("Patient?_text=" + "not " * 30 + "x", "_text"),
    ("Patient?_text=" + "x " * 101, "_text"),
    ("Patient?_filter=name eq", "a value"),
    ("Patient?_filter=name xx y", "an operator"),
    ("Patient?_filter=name eq x and", "the end"),
    ("Patient?_filter=name eq x and ", "a parameter"),
    ("Patient?_filter=(name eq x", "')'"),
    ("Patient?_filter=not name eq x", "'('"),
    ("Patient?_filter=name eq x)", "the end"),
    ("Patient?_filter=foo eq x", "foo"),
    ("Patient?_filter=gender co x", "'co'"),
    ("Patient?_filter=birthdate eq ge2020", "birthdate"),
    ("Patient?_filter=birthdate eq 2020-13", "2020-13"),
    ("Patient?_filter=name pr maybe", "maybe"),
    ("Patient?_filter=name.family eq x", "name"),
    ("Patient?_filter=link[name eq x] eq y", "'.'"),
    ('Patient?_filter=name eq "x', "a value"),
    ("Patient?_filter=" + "(" * 50 + "name eq x" + ")" * 50, "deeply"),
    ("Patient?_list=$current-allergies", "$current"),
    ("Patient?_list=a b", "_list"),
    ("Patient?_elements=nothing", "nothing"),
    ("Patient?_elements=Foo.id", "Foo"),
    ("Patient?_elements=id&_summary=true", "_elements"),
    ("Patient?_containedType=x", "_containedType"),
    ("Patient?_contained=x", "_contained"),
    ("Patient?_contained=true&_include=*", "_contained"),
    ("Patient?_contained=true&_sort=name", "_contained"),
    ("Patient?_query=x", "_query"),
    ("Patient?_content=(x", "_content"),
    ("Observation?code:text-advanced=(x", "code"),
    ("Patient?birthdate:text-advanced=x", "birthdate"),
    ("Patient?_summary=x", "_summary"),
    ("Patient?_count=-1", "_count"),
    ("Patient?_count=NaN", "_count"),
    ("Patient?_count=１", "_count"),
    ("Patient?_count=1&_count=2", "_count"),
    ("Patient?_total=all", "_total"),
    ("Patient?_sort=general-practitioner", "_sort"),
    ("Patient?_sort=unknown", "_sort"),
    ("Patient?_sort:asc=name", ":asc"),
    ("Observation?_sort=subject.name", "chain"),
    ("Patient?_sort=_has:Observation:subject:code", "chain"),
    ("Observation?_sort=code-value-quantity", "_sort"),
    ("Patient?_include=Patient:name", "name"),
    ("Patient?_include=Patient", "_include"),
    ("Patient?_include=Pat:link", "Pat"),
    ("Patient?_include=Patient:organization:Device", "Device"),
    ("Patient?_include:recurse=Patient:link", ":recurse"),
    ("Patient?_revinclude=Provenance:agent:Device", "_revinclude"),
    ("Patient?_include=Patient:link&_summary=text", "_summary=text"),
    ("QuestionnaireResponse?questionnaire:Questionnaire=1", "questionnaire"),
    ("Observation?value-quantity=5.4|mg", "value-quantity"),
    ("Observation?value-quantity=five", "value-quantity"),
    ("Observation?value-quantity=|a|b", "value-quantity"),
    ("Observation?value-quantity:missing=1", "missing"),
    ("Observation?subject=a b", "subject"),
    ("Observation?subject:Foo=1", ":Foo"),
    ("Observation?subject:Medication=1", "Medication"),
    ("Observation?code-value-quantity=1", "code$value-quantity"),
    ("Observation?code-value-quantity=1$", "code$value-quantity"),
    ("Observation?code-value-quantity=1$2$3", "code$value-quantity"),
    ("Observation?code-value-quantity=1$x", "code-value-quantity"),
    ("Observation?code-value-quantity:not=1$2", ":not"),
    ("Observation?code-value-quantity:missing=true", ":missing"),
    ("Observation?_sort=code-value-quantity", "_sort"),
    ("Location?near=1", "near"),
    ("Location?near=91|0", "near"),
    ("Location?near=1|2|3|kg", "near"),
    ("Location?near=1|2|-3", "near"),
    ("Location?near=a|b", "near"),
    ("Location?near:missing=true", ":missing"),
    ("Observation?code.name=x", "code"),
    ("Observation?subject.nothing=x", "nothing"),
    ("Observation?subject:Practitioner.name=x", "Practitioner"),
    ("Patient?_has:Observation:code:status=final", "code"),
    ("Patient?_has:Observation:patient=1", "_has"),
    ("Patient?_has:Foo:patient:code=1", "Foo"),
    ("Patient?_has:Observation:patient:foo=1", "foo"),
    ("Organization?_has:Observation:specimen:code=1", "Organization"),
    ("Patient?" + "link:Patient." * 5 + "name=x", "chained"),
    ("Patient?_id=" + ",".join(["a"] * 1001), "1000"),
    ("RiskAssessment?probability=1e9999", "probability"),
]


@pytest.mark.parametrize(("query", "named"), REFUSED)
def test_refused_and_named(query: str, named: str) -> None:
    type, _, rest = query.partition("?")
    with pytest.raises(BadRequest) as caught:
        parse(type, rest, strict=True)
    assert named in str(caught.value)


@pytest.mark.parametrize(("query", "named"), REFUSED)
def test_refused_by_lenient_handling_too(query: str, named: str) -> None:
    type, _, rest = query.partition("?")
    if named not in ("_foo", "empty") or query.endswith(","):
        with pytest.raises(BadRequest):
            parse(type, rest)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Zażółć  Gęślą", "zazolc gesla"),
        ("Ærøskøbing", "aeroskobing"),
        ("ĐORĐE", "dorde"),
        ("Straße", "strasse"),
        ("ЄВГЕНІЯ", "євгенія"),
        ("Ångström", "angstrom"),
        ("Ｊａｎ", "jan"),
    ],
)
def test_strings_are_folded_in_every_script(text: str, folded: str) -> None:
    assert fold(text) == folded
