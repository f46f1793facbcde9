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
