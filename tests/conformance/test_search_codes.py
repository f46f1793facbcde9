"""Tokens, references and uris with modifiers: conformance cases 39 to 42, 48 and 49.

https://hl7.org/fhir/R4/search.html#modifiers
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .searching import Both, both

LOINC = "http://loinc.org"
SCT = "http://snomed.info/sct"
V2 = "http://terminology.hl7.org/CodeSystem/v2-0203"
KINDS = "http://example.org/CodeSystem/kinds"
SETS = "http://example.org/ValueSet/"
PROFILE = "http://example.org/StructureDefinition/"


def condition(id: str, *codings: tuple[str, str, str], text: str = "", **more: Any) -> Any:
    coded = [
        {k: v for k, v in (("system", s), ("code", c), ("display", d)) if v} for s, c, d in codings
    ]
    code = {"coding": coded} | ({"text": text} if text else {})
    code = {name: value for name, value in code.items() if value}
    return {
        "resourceType": "Condition",
        "id": id,
        "subject": {"reference": "Patient/p"},
        **({"code": code} if code else {}),
        **more,
    }


def value_set(id: str, **compose: Any) -> Any:
    return {
        "resourceType": "ValueSet",
        "id": id,
        "url": SETS + id,
        "version": "1",
        "status": "active",
        "compose": compose,
    }


RECORD = [
    {
        "resourceType": "CodeSystem",
        "id": "kinds",
        "url": KINDS,
        "status": "active",
        "content": "complete",
        "property": [{"code": "parent", "type": "code"}, {"code": "mild", "type": "boolean"}],
        "concept": [
            {
                "code": "disease",
                "concept": [
                    {"code": "heart", "concept": [{"code": "infarct"}]},
                    {"code": "lung", "property": [{"code": "mild", "valueBoolean": True}]},
                ],
            },
            {"code": "pneumonia", "property": [{"code": "parent", "valueCode": "lung"}]},
        ],
    },
    value_set("hearts", include=[{"system": KINDS, "filter": [
        {"property": "concept", "op": "is-a", "value": "heart"}]}]),
    value_set("below", include=[{"system": KINDS, "filter": [
        {"property": "concept", "op": "descendent-of", "value": "heart"}]}]),
    value_set("mild", include=[{"system": KINDS, "filter": [
        {"property": "mild", "op": "=", "value": "true"}]}]),
    value_set("listed", include=[{"system": SCT, "concept": [{"code": "22298006"}]}]),
    value_set("whole", include=[{"system": SCT}]),
    value_set("import", include=[{"valueSet": [SETS + "hearts"]}, {"valueSet": [SETS + "listed"]}]),
    value_set("overlap", include=[{"valueSet": [SETS + "hearts|1", SETS + "below"]}]),
    value_set("without", include=[{"system": KINDS}],
              exclude=[{"system": KINDS, "concept": [{"code": "infarct"}]}]),
    value_set("circle", include=[{"valueSet": [SETS + "circle"]}]),
    value_set("regex", include=[{"system": KINDS, "filter": [
        {"property": "concept", "op": "regex", "value": "(a"}]}]),
    value_set("loinc", include=[{"system": LOINC, "filter": [
        {"property": "concept", "op": "is-a", "value": "x"}]}]),
    {
        "resourceType": "ValueSet",
        "id": "expanded",
        "url": SETS + "expanded",
        "status": "active",
        "expansion": {
            "timestamp": "2024-01-01",
            "contains": [
                {"system": KINDS, "code": "disease", "abstract": True,
                 "contains": [{"system": KINDS, "code": "lung"}]}
            ],
        },
    },
    {
        "resourceType": "Patient",
        "id": "p",
        "gender": "female",
        "meta": {"profile": [PROFILE + "a/b|1.0"]},
        "identifier": [
            {"system": "urn:mrn", "value": "7",
             "type": {"coding": [{"system": V2, "code": "MR"}], "text": "Record number"}},
            {"system": "urn:ssn", "value": "7"},
        ],
    },
    {
        "resourceType": "Patient",
        "id": "q",
        "gender": "male",
        "meta": {"profile": [PROFILE + "a"]},
        "identifier": [{"value": "8", "type": {"coding": [{"system": V2, "code": "SS"}]}}],
    },
    condition("heart", (KINDS, "heart", "Heart disease"), text="Ischémic heart"),
    condition("infarct", (KINDS, "infarct", ""), (SCT, "22298006", "Myocardial infarction")),
    condition("pneumonia", (KINDS, "pneumonia", ""), text="Heartburn, not"),
    condition("lung", (KINDS, "lung", "")),
    condition("odd", ("", "heart", "")),
    condition("none", subject={"identifier": {"system": "urn:mrn", "value": "9"}}),
    condition("known", subject={
        "reference": "Patient/p", "identifier": {"system": "urn:mrn", "value": "7"}}),
]  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("codes")) as servers:
        servers.put(*RECORD)
        yield servers


CONDITIONS = {"heart", "infarct", "pneumonia", "lung", "odd", "none", "known"}
ROWS: list[tuple[str, set[str]]] = [
    # 39: with and without a system
    ("Condition?code=heart", {"heart", "odd"}),
    (f"Condition?code={KINDS}|heart", {"heart"}),
    ("Condition?code=|heart", {"odd"}),
    (f"Condition?code={KINDS}|", {"heart", "infarct", "pneumonia", "lung"}),
    # 40: identifiers and codes by their case
    ("Condition?code=HEART", {"heart", "odd"}),
    (f"Condition?code={KINDS}|HEART", {"heart"}),
    ("Patient?identifier=urn:MRN|7", set()),
    # 41: also without the element; not if any coding is the code
    (f"Condition?code:not={SCT}|22298006", CONDITIONS - {"infarct"}),
    ("Condition?code:not=heart,lung", {"infarct", "pneumonia", "none", "known"}),
    ("Condition?code:not=heart&code:not=lung", {"infarct", "pneumonia", "none", "known"}),
    # 42: of-type
    (f"Patient?identifier:of-type={V2}|MR|7", {"p"}),
    (f"Patient?identifier:of-type={V2}|MR|8", set()),
    (f"Patient?identifier:of-type={V2}|SS|7", set()),
    (f"Patient?identifier:of-type={V2}|SS|8", {"q"}),
    # 42: text, like a string
    ("Condition?code:text=HEART", {"heart", "pneumonia"}),
    ("Condition?code:text=ischemic", {"heart"}),
    ("Condition?code:text=myocardial", {"infarct"}),
    ("Condition?code:text=disease", set()),
    ("Patient?identifier:text=record", {"p"}),
    # 42: in and not-in
    (f"Condition?code:in={SETS}hearts", {"heart", "infarct"}),
    (f"Condition?code:in={SETS}hearts|1", {"heart", "infarct"}),
    ("Condition?code:in=ValueSet/hearts", {"heart", "infarct"}),
    (f"Condition?code:in={SETS}below", {"infarct"}),
    (f"Condition?code:in={SETS}mild", {"lung"}),
    (f"Condition?code:in={SETS}listed", {"infarct"}),
    (f"Condition?code:in={SETS}whole", {"infarct"}),
    (f"Condition?code:in={SETS}import", {"heart", "infarct"}),
    (f"Condition?code:in={SETS}overlap", {"infarct"}),
    (f"Condition?code:in={SETS}without", {"heart", "pneumonia", "lung"}),
    (f"Condition?code:in={SETS}expanded", {"lung"}),
    (f"Condition?code:in={SETS}mild,{SETS}listed", {"lung", "infarct"}),
    (f"Condition?code:not-in={SETS}hearts", CONDITIONS - {"heart", "infarct"}),
    ("Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender", {"p", "q"}),
    ("Patient?gender:not-in=http://hl7.org/fhir/ValueSet/administrative-gender", set()),
    (f"Patient?_has:Condition:patient:code:in={SETS}hearts", {"p"}),
    (f"Condition?subject:Patient._has:Condition:subject:code:in={SETS}mild",
     CONDITIONS - {"none"}),
    # 42: below and above
    (f"Condition?code:below={KINDS}|lung", {"lung", "pneumonia"}),
    (f"Condition?code:below={KINDS}|disease", {"heart", "infarct", "lung", "pneumonia"}),
    (f"Condition?code:above={KINDS}|infarct", {"heart", "infarct"}),
    # 48: the identifier of the reference itself
    ("Condition?subject:identifier=urn:mrn|9", {"none"}),
    ("Condition?subject:identifier=urn:mrn|", {"none", "known"}),
    ("Condition?subject:identifier=7", {"known"}),
    ("Condition?patient:identifier=7", {"known"}),
    ("Condition?subject:identifier=|7", set()),
    # 49: uris
    (f"Patient?_profile={PROFILE}a/b", {"p"}),
    (f"Patient?_profile={PROFILE}a/b|1.0", {"p"}),
    (f"Patient?_profile={PROFILE}a/b|2.0", set()),
    (f"Patient?_profile:below={PROFILE}a", {"p", "q"}),
    (f"Patient?_profile:below={PROFILE}a/", {"p", "q"}),
    (f"Patient?_profile:above={PROFILE}a/b/c", {"p", "q"}),
    (f"Patient?_profile={PROFILE}A", set()),
    (f"ValueSet?url:below={SETS}", {
        "hearts", "below", "mild", "listed", "whole", "import", "overlap", "without", "circle",
        "regex", "loinc", "expanded"}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), ROWS)
def test_c39_to_c49_codes(record: Both, query: str, expected: set[str]) -> None:
    assert set(record.ids(f"{query}&_count=100")) == expected


REFUSED = [
    ("Condition?code:in=http://example.org/nowhere", "nowhere"),
    (f"Condition?code:in={SETS}circle", "itself"),
    (f"Condition?code:in={SETS}regex", "regular expression"),
    (f"Condition?code:in={SETS}loinc", LOINC),
    (f"Condition?code:below={LOINC}|1-8", LOINC),
    (f"Condition?code:below={KINDS}|nothing", "nothing"),
    ("Condition?code:below=lung", "system|code"),
    (f"Patient?identifier:below={KINDS}|lung", ":below"),
    ("Patient?identifier:of-type=a|b", "identifier"),
    ("Condition?code:of-type=a|b|c", ":of-type"),
    ("Condition?subject:text=x", ":text"),
    ("Patient?name:text=x", ":text"),
    ("Condition?subject:identifier=|", "subject"),
    ("Condition?code:code-text=x", ":code-text"),
    ("Condition?code:text=%20", "nothing to search for"),
    ("Condition?" + "&".join(f"code:in={SETS}{n}" for n in range(30)), ""),
]


@pytest.mark.parametrize(("query", "named"), REFUSED)
def test_c42_what_cannot_be_answered_is_refused(record: Both, query: str, named: str) -> None:
    record.refused(query, named)


VERSIONS = [
    {
        "resourceType": "QuestionnaireResponse",
        "id": id,
        "status": "completed",
        "questionnaire": f"http://example.org/Questionnaire/q{version}",
        "meta": {"profile": [f"{PROFILE}p{version}"]},
    }
    for id, version in (
        ("v0", ""), ("v1", "|1"), ("v10", "|1.0"), ("v11", "|1.1-b"), ("v2", "|2.0"),
        ("v12", "|12"),
    )
] + [
    {
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "content": [{"attachment": {"contentType": type_}}],
    }
    for id, type_ in (
        ("plain", "text/xml"),
        ("utf", "text/xml; charset=UTF-8"),
        ("shout", "TEXT/XML;charset=utf-8"),
        ("html", "text/html"),
    )
]  # fmt: skip
Q, P = "http://example.org/Questionnaire/q", f"{PROFILE}p"
EVERY_VERSION = {"v0", "v1", "v10", "v11", "v2", "v12"}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("versions")) as servers:
        servers.put(*VERSIONS)
        yield servers


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"QuestionnaireResponse?questionnaire={Q}", EVERY_VERSION),
        (f"QuestionnaireResponse?questionnaire={Q}|1", {"v1"}),
        (f"QuestionnaireResponse?questionnaire:below={Q}", EVERY_VERSION),
        (f"QuestionnaireResponse?questionnaire:below={Q}|1", {"v1", "v10", "v11"}),
        (f"QuestionnaireResponse?questionnaire:below={Q}|1.1", set()),
        (f"QuestionnaireResponse?questionnaire:below={Q}|2,{Q}|12", {"v2", "v12"}),
        (f"QuestionnaireResponse?_profile:below={P}", EVERY_VERSION),
        (f"QuestionnaireResponse?_profile:below={P}|1", {"v1", "v10", "v11"}),
        (f"QuestionnaireResponse?_profile={P}|1", {"v1"}),
        ("DocumentReference?contenttype=text/xml", {"plain"}),
        ("DocumentReference?contenttype:below=text/xml", {"plain", "utf", "shout"}),
        ("DocumentReference?contenttype:below=text/html", {"html"}),
        ("DocumentReference?contenttype:below=text", set()),
    ],
)
def test_c48_c49_below_a_version_and_a_mime_type(
    versions: Both, query: str, expected: set[str]
) -> None:
    assert versions.found(query) == expected
