"""$lookup, $subsumes and $validate-code of code systems.

https://hl7.org/fhir/R4/codesystem-operations.html
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Server

from .asking import CODE_SYSTEM, KINDS, get, post, put, refusal, values

Json = dict[str, Any]
ISSUES = "http://hl7.org/fhir/issue-type"


def properties(parameters: Json) -> list[tuple[str, Any]]:
    found = []
    for part in parameters["parameter"]:
        if part["name"] == "property":
            name, value = part["part"][0]["valueCode"], part["part"][1]
            found.append((name, next(v for k, v in value.items() if k != "name")))
    return found


def test_lookup_tells_what_is_known(server: Server) -> None:
    put(server, CODE_SYSTEM)
    found = get(server, "CodeSystem/$lookup", system=KINDS, code="heart")
    assert values(found) == {"name": "Kinds", "version": "2", "display": "Heart disease"}
    assert properties(found) == [
        ("definition", "Of the heart"),
        ("inactive", False),
        ("parent", "disease"),
        ("child", "infarct"),
        ("child", "dropsy"),
        ("organ", "heart"),
    ]
    designations = [p["part"] for p in found["parameter"] if p["name"] == "designation"]
    assert [p[-1]["valueString"] for p in designations] == ["Herzkrankheit", "HD"]
    assert designations[1][0]["valueCoding"] == {"system": "urn:use", "code": "short"}
    coding = {"name": "coding", "valueCoding": {"system": KINDS, "code": "heart"}}
    assert post(server, "CodeSystem/$lookup", coding) == found


def test_lookup_of_some_properties_and_in_a_language(server: Server) -> None:
    put(server, CODE_SYSTEM)
    where = {"system": KINDS, "code": "heart"}
    found = get(server, "CodeSystem/$lookup", property=["parent", "lang.de"], **where)
    assert properties(found) == [("parent", "disease")]
    assert [p["name"] for p in found["parameter"]].count("designation") == 1
    german = get(server, "CodeSystem/$lookup", displayLanguage="de", **where)
    assert values(german)["display"] == "Herzkrankheit"
    french = get(server, "CodeSystem/$lookup", displayLanguage="fr", **where)
    assert values(french)["display"] == "Heart disease"


REFUSED = [
    ({"system": KINDS, "code": "nothing"}, 404, "not-found", "nothing"),
    ({"system": "http://example.org/nowhere", "code": "a"}, 404, "not-found", "nowhere"),
    ({"system": KINDS, "code": "heart", "version": "1"}, 404, "not-found", "|1"),
    ({"system": KINDS}, 400, "required", "code"),
    ({"code": "heart"}, 400, "required", "system"),
    ({"system": KINDS, "code": "heart", "date": "2020"}, 422, "not-supported", "date"),
    ({"system": KINDS, "code": "heart", "odd": "1"}, 400, "not-supported", "odd"),
    ({"system": "http://hl7.org/fhir/CodeSystem/example-supplement", "code": "chol"}, 404,
     "not-found", "supplement"),
    ({"system": "http://snomed.info/sct", "code": "22298006"}, 404, "not-found", "snomed"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "status", "code", "named"), REFUSED)
def test_lookup_refuses(
    server: Server, parameters: Json, status: int, code: str, named: str
) -> None:
    put(server, CODE_SYSTEM)
    found, text = refusal(get(server, "CodeSystem/$lookup", status, **parameters))
    assert found == code and named in text


def test_the_official_example_code_system(server: Server) -> None:
    """CodeSystem/example: https://hl7.org/fhir/R4/codesystem-example.html"""
    system = "http://hl7.org/fhir/CodeSystem/example"
    found = get(server, "CodeSystem/$lookup", system=system, code="chol-mmol")
    assert values(found)["display"] == "SChol (mmol/L)"
    assert ("definition", "Serum Cholesterol, in mmol/L") in properties(found)


SUBSUMED = [
    ("heart", "infarct", "subsumes"),
    ("infarct", "heart", "subsumed-by"),
    ("disease", "pneumonia", "subsumes"),
    ("heart", "heart", "equivalent"),
    ("infarct", "lung", "not-subsumed"),
]


@pytest.mark.parametrize(("a", "b", "outcome"), SUBSUMED)
def test_subsumes(server: Server, a: str, b: str, outcome: str) -> None:
    put(server, CODE_SYSTEM)
    by_type = get(server, "CodeSystem/$subsumes", system=KINDS, codeA=a, codeB=b)
    assert values(by_type) == {"outcome": outcome}
    assert get(server, "CodeSystem/kinds/$subsumes", codeA=a, codeB=b) == by_type
    codings = [
        {"name": f"coding{side}", "valueCoding": {"system": KINDS, "code": code}}
        for side, code in (("A", a), ("B", b))
    ]
    assert post(server, "CodeSystem/$subsumes", *codings) == by_type


def test_subsumes_of_fhirs_own(server: Server) -> None:
    found = get(server, "CodeSystem/$subsumes", system=ISSUES, codeA="value", codeB="invalid")
    assert values(found) == {"outcome": "subsumed-by"}


def test_what_subsumes_nothing_is_refused(server: Server) -> None:
    put(server, CODE_SYSTEM | {"hierarchyMeaning": "part-of"})
    both = {"codeA": "heart", "codeB": "infarct"}
    refused = get(server, "CodeSystem/$subsumes", 422, system=KINDS, **both)
    assert refusal(refused)[0] == "not-supported"
    unknown = get(server, "CodeSystem/$subsumes", 404, system=KINDS, codeA="heart", codeB="no")
    assert refusal(unknown)[0] == "not-found"
    get(server, "CodeSystem/$subsumes", 400, system=KINDS, codeA="heart")
    get(server, "CodeSystem/$subsumes", 400, **both)
    get(server, "CodeSystem/kinds/$subsumes", 400, system=ISSUES, **both)
    get(server, "CodeSystem/nobody/$subsumes", 404, **both)


def test_circles_end(server: Server) -> None:
    circle = {
        "resourceType": "CodeSystem",
        "id": "circle",
        "url": "urn:circle",
        "status": "active",
        "content": "complete",
        "concept": [
            {"code": "a", "property": [{"code": "parent", "valueCode": "b"}]},
            {"code": "b", "property": [{"code": "parent", "valueCode": "a"}]},
        ],
    }
    put(server, circle)
    found = get(server, "CodeSystem/$subsumes", system="urn:circle", codeA="a", codeB="b")
    assert values(found) == {"outcome": "subsumes"}


JUDGED: list[tuple[Json, bool, str]] = [
    ({"code": "heart"}, True, ""),
    ({"code": "heart", "display": "heart  DISEASE"}, True, ""),
    ({"code": "heart", "display": "Herzkrankheit"}, True, ""),
    ({"code": "heart", "display": "Lung disease"}, False, "'Lung disease' is incorrect"),
    ({"code": "HEART"}, False, "not a code"),
    ({"code": "dropsy"}, True, "not active"),
    ({"code": "disease", "abstract": False}, False, "abstract"),
    ({"code": "disease"}, True, ""),
]


@pytest.mark.parametrize(("parameters", "result", "message"), JUDGED)
def test_validate_code(server: Server, parameters: Json, result: bool, message: str) -> None:
    put(server, CODE_SYSTEM)
    found = get(server, "CodeSystem/$validate-code", url=KINDS, **parameters)
    assert values(found)["result"] is result
    assert message in values(found).get("message", "") and bool(message) is (
        "message" in values(found)
    )
    assert get(server, "CodeSystem/kinds/$validate-code", **parameters) == found


def test_case_counts_only_where_the_system_says_so(server: Server) -> None:
    put(server, CODE_SYSTEM | {"caseSensitive": False})
    found = values(get(server, "CodeSystem/$validate-code", url=KINDS, code="HEART"))
    assert found == {"result": True, "display": "Heart disease"}


def test_a_given_code_system_and_concepts(server: Server) -> None:
    given = {"name": "codeSystem", "resource": CODE_SYSTEM}
    bad, good = ({"system": KINDS, "code": code} for code in ("no", "heart"))
    concept = {"name": "codeableConcept", "valueCodeableConcept": {"coding": [bad, good]}}
    found = values(post(server, "CodeSystem/$validate-code", given, concept))
    assert found["result"] is True and "'no' is not a code" in found["message"]
    url = {"name": "url", "valueUri": KINDS}
    post(server, "CodeSystem/$validate-code", given, url, concept, status=400)
    post(server, "CodeSystem/$validate-code", url, concept, status=404)


def test_only_what_the_caller_may_see(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    put(secured, CODE_SYSTEM)
    where = {"system": KINDS, "code": "heart"}
    assert get(secured, "CodeSystem/$lookup", **where)
    secured.headers = secured.bearer("system/CodeSystem.rs?url=http://example.org/other")
    get(secured, "CodeSystem/$lookup", 404, **where)
    get(secured, "CodeSystem/kinds/$subsumes", 404, codeA="heart", codeB="lung")
    secured.headers = secured.bearer("system/Patient.rs")
    get(secured, "CodeSystem/$lookup", 403, **where)
