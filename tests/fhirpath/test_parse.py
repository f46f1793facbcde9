"""Syntax: http://hl7.org/fhirpath/N1/#grammar."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import load
from fhir_server.fhirpath import Budget, Context, FhirPathError, FhirPathSyntaxError, compile
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.syntax import Binary, Call, Literal, Member, TypeName, TypeTest, Unary


def test_precedence() -> None:
    a, b, c = (Member(None, name) for name in "abc")
    assert parse("a or b and c") == Binary("or", a, Binary("and", b, c))
    assert parse("a | b = c") == Binary("=", Binary("|", a, b), c)
    assert parse("a - b - c") == Binary("-", Binary("-", a, b), c)
    assert parse("-a.b()") == Unary("-", Call(a, "b", ()))
    assert parse("a + b is Integer") == TypeTest("is", Binary("+", a, b), TypeName(None, "Integer"))
    assert parse("a in b and c") == Binary("and", Binary("in", a, b), c)


def test_names_that_are_operators() -> None:
    assert parse("contains.is.as.in") == Member(
        Member(Member(Member(None, "contains"), "is"), "as"), "in"
    )
    assert parse("text.div") == Member(Member(None, "text"), "div")
    assert parse("`a b`.`div`") == Member(Member(None, "a b"), "div")


def test_literals() -> None:
    assert parse(r"'\u0041\'\\'") == Literal("A'\\")
    assert parse("1 /* one */ // more") == Literal(1)


@pytest.mark.parametrize(
    ("text", "position"),
    [("a.", 2), ("a b", 2), ("(a", 2), ("'a", 0), ("/* a", 0), ("@2015-02-30", 0), ("a ? b", 2)],
)
def test_errors_have_a_position(text: str, position: int) -> None:
    with pytest.raises(FhirPathSyntaxError) as error:
        parse(text)
    assert error.value.position == position


@pytest.mark.parametrize(
    "text", ["(" * 5000, "a." * 5000 + "a", "-" * 5000 + "1", "not(" * 60, "1" * 5000, "a|" * 5000]
)
def test_long_and_deep_expressions_are_refused(text: str) -> None:
    with pytest.raises(FhirPathSyntaxError):
        compile(text)


def test_the_deepest_permitted_expressions_run() -> None:
    compile(".".join(["a"] * 290)).evaluate({})
    compile("|".join(["a"] * 290)).evaluate({})
    compile("iif(true," * 45 + "1" + ")" * 45).evaluate({})


def test_every_expression_of_the_definitions_compiles() -> None:
    definitions = load()
    for type_ in definitions.types.values():
        for element in type_.elements.values():
            for constraint in element.constraints:
                compile(constraint.expression)
        for parameter in definitions.search_parameters(type_.name).values():
            if parameter.expression:
                compile(parameter.expression)


_WORDS = (
    "Patient", "name", "given", "value", "1", "2.5", "'a'", "'('", "{}", "true", "@2015",
    "@T10", "@2015-02-04T10:00Z", "3", "days", "$this", "$total", "$index", "%resource", "%x",
    ".", ",", "(", ")", "[", "]", "+", "-", "*", "/", "&", "|", "=", "~", "<", ">", "<=", "!=",
    "and", "or", "xor", "implies", "is", "as", "in", "contains", "where(", "select(", "repeat(",
    "iif(", "matches(", "ofType(", "is(", "first()", "descendants()", "toString()", "length()",
    "aggregate(", "sort(", "lowBoundary()", "toQuantity()", "power(", "replaceMatches(",
    "join(", "Integer", "Quantity",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=12).map(" ".join))
def test_any_text_gives_a_result_or_a_named_error(text: str) -> None:
    context = Context(model=r4_model(), budget=Budget(steps=20_000, items=1_000, characters=10_000))
    subject = {"resourceType": "Patient", "name": [{"given": ["a", "b"]}], "active": True}
    with suppress(FhirPathError):
        compile(text).evaluate(subject, context)
