"""The table of invalid resources, and their valid neighbours."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fhir_server.model.problem import Unprocessable
from fhir_server.validation.validate import Validator

from .bases import (
    XHTML,
    Case,
    Json,
    bundle,
    contained,
    narrative,
    nested_extension,
    observation,
    patient,
    valued,
)
from .invalid import CASES


def verdict(validator: Validator, case: Case) -> str | None:
    """What is wrong with the verdict on a case, or nothing."""
    title, resource, code, expression = case
    if validator.surely(resource):
        return f"{title}: the fast pass accepts it"
    issues = validator.issues(resource)
    if (code, expression) not in {(i.code, i.expression) for i in issues}:
        return f"{title}: {[(i.code, i.expression, i.diagnostics[:80]) for i in issues]}"
    if len(issues) != 1:
        return f"{title}: more than the one issue: {[i.diagnostics[:80] for i in issues]}"
    return None


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_refused(validator: Validator, case: Case) -> None:
    assert verdict(validator, case) is None
    with pytest.raises(Unprocessable) as caught:
        validator.check(case[1])
    assert all(issue.diagnostics for issue in caught.value.issues)


def test_the_table_is_large() -> None:
    assert len(CASES) >= 80
    assert len({case[0] for case in CASES}) == len(CASES)


def test_flipped_cases_go_red(validator: Validator) -> None:
    """With the code or the expression changed, or with a valid resource, none passes."""
    for title, resource, code, expression in CASES:
        assert verdict(validator, (title, resource, f"not-{code}", expression)), title
        assert verdict(validator, (title, resource, code, f"{expression}.x")), title
        assert verdict(validator, (title, patient(), code, expression)), title


EXTENSION = {"url": "http://example.org/x", "valueCode": "x"}
VALID: list[tuple[str, Json]] = [
    ("nothing but a type", patient()),
    ("a primitive by extension alone", patient(_birthDate={"extension": [EXTENSION]})),
    ("a required primitive by extension alone", {**observation(), "_status": {"id": "a"}}),
    (
        "a required primitive without a value",
        {
            "resourceType": "Observation",
            "code": {"text": "x"},
            "_status": {"extension": [EXTENSION]},
        },
    ),
    (
        "a required choice by extension",
        {
            "resourceType": "Immunization",
            "status": "completed",
            "vaccineCode": {"text": "x"},
            "patient": {"display": "x"},
            "_occurrenceString": {"extension": [EXTENSION]},
        },
    ),
    (
        "null beside an extension",
        patient(name=[{"given": [None, "x"], "_given": [{"extension": [EXTENSION]}, None]}]),
    ),
    ("extensions beside no array", patient(name=[{"_given": [{"extension": [EXTENSION]}]}])),
    ("an id beside a value", patient(birthDate="2020", _birthDate={"id": "a"})),
    ("a value and its extension", observation(valueString="x", _valueString={"id": "a"})),
    ("leap day", valued("Date", "2020-02-29")),
    ("leap day of 2000", valued("Date", "2000-02-29")),
    ("leap second", valued("DateTime", "2016-12-31T23:59:60Z")),
    ("offset of 14 hours", valued("DateTime", "2020-01-01T00:00:00.123456789+14:00")),
    ("minus zero", valued("Integer", Decimal("-0"))),
    ("decimal with exponent", valued("Decimal", Decimal("-1.000000000000000000e245"))),
    ("a whole number as decimal", valued("Decimal", 1)),
    ("base64 with line breaks", valued("Base64Binary", "QUJD\r\nREVG")),
    ("tab and line feed", valued("String", "a\tb\r\nc")),
    ("Cyrillic", patient(name=[{"family": "Шевченко"}])),
    (
        "relative url inside an extension",
        patient(extension=[{"url": "http://e.org", "extension": [{"url": "a", "valueId": "1"}]}]),
    ),
    ("reference to a version", observation(subject={"reference": "Patient/1/_history/2"})),
    ("absolute reference", observation(subject={"reference": "http://e.org/fhir/Patient/1"})),
    ("absolute reference of another kind", observation(subject={"reference": "http://e.org/x?y"})),
    (
        "urn:uuid",
        observation(subject={"reference": "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"}),
    ),
    ("logical reference", observation(subject={"identifier": {"value": "1"}})),
    ("contained", contained(patient(id="p"), subject={"reference": "#p"})),
    (
        "contained, referring to its container",
        contained(
            {
                "resourceType": "Provenance",
                "id": "p",
                "target": [{"reference": "#"}],
                "recorded": "2020-01-01T00:00:00Z",
                "agent": [{"who": {"display": "x"}}],
            }
        ),
    ),
    (
        "conditional reference in a transaction",
        bundle(
            "transaction",
            {
                "resource": observation(subject={"reference": "Patient?identifier=1"}),
                "request": {"method": "POST", "url": "Observation"},
            },
        ),
    ),
    (
        "periods of unlike precision",
        observation(effectivePeriod={"start": "2020-05", "end": "2020"}),
    ),
    ("a link and a style", narrative(f'<div {XHTML} style="color:red"><a href="#x">a</a></div>')),
    ("an image of its own", narrative(f'<div {XHTML}><img src="#p" alt="p"/></div>')),
    ("numeric entities", narrative(f"<div {XHTML}>&#160;&lt;&#x41;</div>")),
]


@pytest.mark.parametrize("title, resource", VALID, ids=[title for title, _ in VALID])
def test_accepted(validator: Validator, title: str, resource: Json) -> None:
    assert [i.diagnostics for i in validator.issues(resource)] == []
    validator.check(resource)


@pytest.mark.parametrize("levels", [64, 2_000])
def test_depth_costs_no_stack(validator: Validator, levels: int) -> None:
    resource = nested_extension(levels)
    with pytest.raises(Unprocessable) as caught:
        validator.check(resource)
    (issue,) = caught.value.issues
    assert issue.expression == "Patient" + ".extension[0]" * (levels + 1) + ".value.ofType(string)"
    inner = resource
    while "extension" in inner:
        inner = inner["extension"][0]
    inner["valueString"] = "x"
    validator.check(resource)


def test_at_most_a_hundred_issues(validator: Validator) -> None:
    issues = validator.issues(patient(name=[{"family": ""}] * 5_000))
    assert len(issues) == 101
    assert issues[-1].severity == "information"


@pytest.mark.parametrize("body", [None, [], "x", 1, True])
def test_no_resource_at_all(validator: Validator, body: object) -> None:
    with pytest.raises(Unprocessable):
        validator.check(body)  # type: ignore[arg-type]
