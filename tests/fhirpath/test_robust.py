"""Whatever the expression and however wrong the resource: a result or a FhirPathError."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Budget, Context, FhirPathError, compile
from fhir_server.fhirpath.functions import FUNCTIONS
from fhir_server.fhirpath.functions.registry import Function, Kind
from fhir_server.fhirpath.parse import PRECEDENCE

_TYPES = ("Integer", "Quantity", "HumanName", "string", "System.String", "FHIR.date", "Patient")
_ATOMS = (
    "Patient", "name.given", "birthDate", "active", "telecom", "contact", "deceased", "extension",
    "1", "2.5", "(-1)", "'a'", "'12'", "''", "{}", "true", "@2015", "@T10:30", "3 days", "2 'mg'",
    "@2015-02-04T10:00:00Z", "$this", "$index", "$total", "%resource", "(1 | 2 | 3)", "'(a+)+$'",
    "99999999999999999999.0", "1000000000", "'2015-02'", "'1 day'",
)  # fmt: skip
_SUBJECTS: tuple[dict[str, Any], ...] = (
    {
        "resourceType": "Patient",
        "name": [{"given": ["a", "b"]}],
        "active": True,
        "birthDate": "1980-02",
        "deceasedDateTime": "2020-01-01T00:00:00Z",
    },
    {
        "resourceType": "Patient",
        "name": "x",
        "active": [True, {}],
        "birthDate": 5,
        "_birthDate": 7,
        "contact": [[1]],
        "telecom": [None, 3],
        "extension": {"a": 1},
        "deceasedBoolean": "no",
    },
)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = sorted(PRECEDENCE.keys() - {"is", "as"})
    return st.one_of(
        st.tuples(inner, st.sampled_from(operators), inner).map(lambda p: f"({' '.join(p)})"),
        st.tuples(inner, st.sampled_from(["is", "as"]), st.sampled_from(_TYPES)).map(
            lambda p: f"({' '.join(p)})"
        ),
        st.tuples(inner, inner).map(lambda p: f"{p[0]}[{p[1]}]"),
        st.sampled_from(sorted(FUNCTIONS)).flatmap(lambda name: _call(FUNCTIONS[name], inner)),
    )


def _call(row: Function, inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = [
        st.sampled_from(_TYPES) if kind is Kind.TYPE else inner
        for kind in row.parameters[: row.required]
    ]
    return st.tuples(inner, st.tuples(*arguments)).map(
        lambda p: f"({p[0]}).{row.name}({', '.join(p[1])})"
    )


@settings(max_examples=400, deadline=None)
@given(
    st.recursive(st.sampled_from(_ATOMS), _compound, max_leaves=12),
    st.sampled_from(_SUBJECTS),
    st.booleans(),
)
def test_any_expression_on_any_resource(text: str, subject: dict[str, Any], typed: bool) -> None:
    budget = Budget(steps=20_000, items=1_000, characters=10_000)
    context = Context(model=r4_model() if typed else None, budget=budget)
    with suppress(FhirPathError):
        compile(text).evaluate(subject, context)
