"""Every function row shows an example; every example is run."""

from __future__ import annotations

import pytest

from fhir_server.fhirpath import compile
from fhir_server.fhirpath.functions import FUNCTIONS
from fhir_server.fhirpath.functions.registry import Function


@pytest.mark.parametrize("row", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_example(row: Function) -> None:
    assert row.doc
    assert row.name in row.example.expression
    assert tuple(compile(row.example.expression).evaluate({})) == row.example.result


@pytest.mark.parametrize("expression", ["{}.join(',')", "{}.join()", "name.given.join(' ')"])
def test_nothing_joined_is_nothing(expression: str) -> None:
    """https://hl7.org/fhirpath/#joinseparator-string-string: of an empty input nothing comes."""
    assert compile(expression).evaluate({"resourceType": "Patient"}) == []
