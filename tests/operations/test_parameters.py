"""Arguments of operations: https://hl7.org/fhir/R4/operations.html#request"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.problem import BadRequest, Problem, Unprocessable
from operations.parameters import SIMPLE, Parameter, Value, decode
from operations.predict import INPUTS
from operations.registry import Operations, definition

ROWS = (
    Parameter("name", "code", "a code", min=1),
    Parameter("flag", "boolean", "a boolean"),
    Parameter("at", "instant", "a moment"),
    Parameter("any", "Resource", "resources", max=None),
    Parameter("pair", "", "parts", max=None, parts=(Parameter("v", "value", "any value", min=1),)),
)


def _body(*parameters: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parameters)}


def test_query_and_body_together() -> None:
    patient = {"resourceType": "Patient"}
    found = decode(
        ROWS,
        [("name", "x"), ("flag", "true"), ("_format", "json")],
        _body(
            {"name": "any", "resource": patient},
            {"name": "pair", "part": [{"name": "v", "valueInteger": 3}]},
        ),
    )
    assert (found.one("name"), found.one("flag"), found.all("any")) == ("x", True, [patient])
    assert found.one("pair").one("v") == Value("valueInteger", 3)
    assert found.one("at", "now") == "now"


def test_a_bare_resource_stands_for_the_named_input() -> None:
    patient = {"resourceType": "Patient"}
    assert decode(ROWS, [("name", "x")], patient, "any").all("any") == [patient]
    with pytest.raises(BadRequest, match="Parameters resource"):
        decode(ROWS, [("name", "x")], patient)


@pytest.mark.parametrize(
    ("query", "body", "kind"),
    [
        ([], None, BadRequest),
        ([("name", "")], None, BadRequest),
        ([("name", "a"), ("name", "b")], None, BadRequest),
        ([("name", "a"), ("other", "b")], None, BadRequest),
        ([("name", "a"), ("flag", "yes")], None, BadRequest),
        ([("name", "a"), ("any", "b")], None, BadRequest),
        ([("name", "a")], _body({"name": "other", "valueCode": "x"}), BadRequest),
        ([], _body({"name": "name", "valueInteger": 1}), Unprocessable),
        ([], _body({"name": "name", "valueCode": 1}), Unprocessable),
        ([], _body({"name": "name", "valueCode": "a", "valueString": "b"}), Unprocessable),
        ([], _body({"valueCode": "a"}), Unprocessable),
        ([], {"resourceType": "Parameters", "parameter": {}}, Unprocessable),
        ([("name", "a"), ("at", "2020")], None, BadRequest),
        ([("name", "a"), ("at", "2020-02-29T00:00:00")], None, BadRequest),
        ([("name", "a")], _body({"name": "at", "valueDate": "2020-02-29"}), Unprocessable),
        ([("name", "a")], _body({"name": "at", "valueDateTime": "2020-02-29"}), Unprocessable),
        ([("name", "a")], _body({"name": "flag", "valueBoolean": "true"}), Unprocessable),
        ([("name", "a")], _body({"name": "at", "valueInstant": "2024-02-30"}), Unprocessable),
        ([("name", "a")], _body({"name": "any", "valueCode": "x"}), Unprocessable),
        ([("name", "a")], _body({"name": "pair", "valueCode": "x"}), Unprocessable),
        ([("name", "a")], _body({"name": "pair", "part": []}), BadRequest),
        ([("name", "a")], _body({"name": "pair", "part": [{"name": "w"}]}), BadRequest),
    ],
)
def test_what_is_refused(query: Any, body: Any, kind: type[Problem]) -> None:
    with pytest.raises(kind):
        decode(ROWS, query, body)


def test_rows_document_themselves() -> None:
    from predicting import Road, World, indexes

    from operations.predict import predict_operation

    row = predict_operation(Road.models, indexes, World([]).system)
    operations = Operations([row])
    assert operations.find("predict", "instance", "Patient") is row
    assert operations.find("predict", "system", "") is None
    assert operations.find("predict", "type", "Group") is None
    resource = definition(row, "http://127.0.0.1:8080/fhir")
    assert [p["name"] for p in resource["parameter"]] == [p.name for p in INPUTS] + ["return"]
    assert all(p["documentation"] for p in resource["parameter"])
    assert row.description and row.example and row.scope


WRONG = {
    "boolean": ("yes", "1", "True", ""),
    "Literal": ("", "Patient", "patient/1", "https://x/Patient/1", "Patient/a_b", "Patient/1/2"),
    "Link": ("", "a b"),
    "id": ("", "a b", "a_b", "x" * 65),
    "code": ("", " a", "a  b", "a\tb"),
    "string": ("", " ", "a\x00"),
    "uri": ("", "a b"),
    "canonical": ("", "http://x/ y"),
    "instant": ("2020", "2020-02-29", "2020-02-29T10:00:00", "2021-02-29T10:00:00Z"),
    "dateTime": ("20", "2021-02-29", "2020-02-29T10:00", "2020-02-29T10:00:00"),
    "date": ("2021-02-29", "2020-02-29T10:00:00Z", "2020-13"),
    "integer": ("1.0", "+1", "01", "2147483648", "-2147483649", "", "１"),
    "unsignedInt": ("-1", "2147483648", "1e2"),
    "positiveInt": ("0", "-1"),
    "Token": ("", "|", " ", "a b|c", "a|b  c", "\t|"),
    "decimal": ("", ".5", "1.", "NaN", "01", "1e9999", "0x1"),
}
RIGHT = {
    "boolean": "true",
    "Literal": "Patient/a-1",
    "Link": "http://x/Library/a|1",
    "Token": "http://x|a-1",
    "id": "a-1.B",
    "code": "a b",
    "string": " a b",
    "uri": "urn:x",
    "canonical": "http://x|1",
    "instant": "2020-02-29T10:00:00.5+02:00",
    "dateTime": "2020-02",
    "date": "2020",
    "integer": "-2147483648",
    "unsignedInt": "0",
    "positiveInt": "2147483647",
    "decimal": "-1.50e-2",
}


@pytest.mark.parametrize("type_", SIMPLE)
def test_every_simple_type_keeps_its_own_rule(type_: str) -> None:
    rows = (Parameter("p", type_, "one"),)
    right = {"boolean": "True", "decimal": "-0.0150"}.get(type_, RIGHT[type_])
    assert str(decode(rows, [("p", RIGHT[type_])]).one("p")) == right
    for text in WRONG[type_]:
        with pytest.raises(BadRequest, match="'p'"):
            decode(rows, [("p", text)])
        for member in SIMPLE[type_].members:
            with pytest.raises(Unprocessable, match="'p'"):
                decode(rows, [], _body({"name": "p", member: text}))
