"""Arguments of operations: https://hl7.org/fhir/R4/operations.html#request"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.problem import BadRequest, Problem, Unprocessable
from operations.parameters import Parameter, Value, decode
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
