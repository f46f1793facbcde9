"""Every listed search parameter against a naive evaluation of its expression.

The expression of the SearchParameter is evaluated by the FHIRPath engine over every demo
resource; values found there are asked for by HTTP, and the ids of the answer must be those
whose own values match by the plainest reading of
https://hl7.org/fhir/R4/search.html#ptypes.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import load
from fhir_server.fhirpath import Context, Services, compile
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_datetime, parse_period
from fhir_server.search.values import fold
from tests.serving import Json, Server

from .searching import ids, walk

from .conftest import DEMO  # isort: skip

pytestmark = pytest.mark.slow

SAMPLES = 2
Values = list[Any]
Row = tuple[str, Values]
"""(resource id, JSON values of the expression)."""


def resolve(reference: str) -> Json | None:
    """Enough for ``resolve() is Patient``."""
    type_ = reference.split("/")[0]
    return {"resourceType": type_} if type_ in load().resource_types else None


CONTEXT = Context(model=r4_model(), services=Services(resolve=resolve))


def flat(value: Any, *names: str) -> Iterator[str]:
    """The text of a value: itself, or its members of these names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name in names:
            inner = value.get(name)
            yield from inner if isinstance(inner, list) else [inner] if inner else []


def tokens(value: Any) -> Iterator[tuple[str, str]]:
    """(system, code) pairs; a code or boolean alone has no system here."""
    if isinstance(value, bool):
        yield "", "true" if value else "false"
    elif isinstance(value, str):
        yield "", value
    elif isinstance(value, dict):
        for coding in value.get("coding", [value]):
            code = coding.get("code") or coding.get("value")
            # The system of a ContactPoint (phone, email) is a code, not a namespace.
            system = coding.get("system", "")
            if code:
                yield system if ":" in system else "", code


STRINGS = ("text", "family", "given", "prefix", "suffix", "line", "city", "district", "state",
           "country", "postalCode")  # fmt: skip


def strings(value: Any) -> Iterator[str]:
    yield from flat(value, *STRINGS)


def references(value: Any) -> Iterator[str]:
    yield from flat(value, "reference")


def span(value: Any) -> tuple[int, int] | None:
    if isinstance(value, str):
        found = parse_datetime(value)
    elif isinstance(value, dict) and value.keys() & {"start", "end"}:
        found = parse_period(value.get("start"), value.get("end"))
    else:
        return None
    return found.lo, found.hi


def token_query(rows: list[Row]) -> Iterator[tuple[str, Callable[[Values], bool]]]:
    for system, code in picked(rows, tokens):
        text = f"{system}|{escaped(code)}" if system else escaped(code)
        yield (
            text,
            lambda values, s=system, c=code: any(
                t[1] == c and (not s or t[0] == s) for v in values for t in tokens(v)
            ),
        )


def string_query(rows: list[Row]) -> Iterator[tuple[str, Callable[[Values], bool]]]:
    for text in picked(rows, lambda value: [part[:4] for part in strings(value)]):
        yield (
            escaped(text),
            lambda values, s=text: any(
                fold(t).startswith(fold(s)) for v in values for t in strings(v)
            ),
        )


def reference_query(rows: list[Row]) -> Iterator[tuple[str, Callable[[Values], bool]]]:
    for text in picked(rows, references):
        if not text.startswith("#"):
            yield (
                escaped(text),
                lambda values, r=text: any(x == r for v in values for x in references(v)),
            )


def date_query(rows: list[Row]) -> Iterator[tuple[str, Callable[[Values], bool]]]:
    for text in picked(rows, lambda value: [value[:10]] if isinstance(value, str) else []):
        lo, hi = span(text) or (0, 0)
        yield (
            text,
            lambda values, lo=lo, hi=hi: any(
                s is not None and lo <= s[0] and s[1] <= hi for s in map(span, values)
            ),
        )


def quantity_query(rows: list[Row]) -> Iterator[tuple[str, Callable[[Values], bool]]]:
    def units(value: Any) -> list[tuple[str, str, str]]:
        if isinstance(value, dict) and {"value", "code", "system"} <= value.keys():
            return [(str(value["value"]), value["system"], value["code"])]
        return []

    for number, system, code in picked(rows, units):
        yield (
            f"{number}|{system}|{escaped(code)}",
            lambda values, n=number, s=system, c=code: any(
                within(v, Decimal(n)) and v.get("system") == s and v.get("code") == c
                for v in values
                if isinstance(v, dict)
            ),
        )


def within(value: Json, number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    half = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0) / 2
    return "value" in value and number - half <= Decimal(value["value"]) < number + half


def uri_query(rows: list[Row]) -> Iterator[tuple[str, Callable[[Values], bool]]]:
    for text in picked(rows, lambda value: [value] if isinstance(value, str) else []):
        yield escaped(text), lambda values, u=text: u in values


QUERIES = {
    "token": token_query,
    "string": string_query,
    "reference": reference_query,
    "date": date_query,
    "quantity": quantity_query,
    "uri": uri_query,
}
"""number, composite and special have their own tables in ``test_search.py``."""


def picked(rows: list[Row], parts: Callable[[Any], Any]) -> list[Any]:
    """Some values that occur: the first and the last distinct ones."""
    found = list(dict.fromkeys(part for _, values in rows for v in values for part in parts(v)))
    return found[:1] + found[-1:] if len(found) > 1 else found


def escaped(text: str) -> str:
    for mark in "\\,|$":
        text = text.replace(mark, f"\\{mark}")
    return text


def stored() -> dict[str, list[Json]]:
    by_type: dict[str, list[Json]] = {}
    with gzip.open(DEMO) as lines:
        for line in lines:
            resource = loads(line)
            by_type.setdefault(resource["resourceType"], []).append(resource)
    return by_type


def disagreements(server: Server, flip: bool = False) -> tuple[list[str], int]:
    """(queries whose answer is not the naive one, queries asked)."""
    statement = server.get("metadata").json()["rest"][0]["resource"]
    listed = {r["type"]: {p["name"] for p in r["searchParam"]} for r in statement}
    wrong, asked = [], 0
    for type_, resources in stored().items():
        for code, parameter in load().search_parameters(type_).items():
            build = QUERIES.get(parameter.type)
            if build is None or code not in listed[type_] or code.startswith("_"):
                continue
            path = compile(parameter.expression or "")
            rows = [(r["id"], list(path.evaluate(r, CONTEXT))) for r in resources]
            for value, matches in build(rows):
                expected = {id_ for id_, values in rows if matches(values)} ^ (
                    {"nobody"} if flip else set()
                )
                query = f"{type_}?{code}={quote(value, safe='')}&_count=500"
                found = {id_ for page in walk(server, query) for id_ in ids(page)}
                asked += 1
                if found != expected:
                    wrong.append(f"{query}: {sorted(found ^ expected)[:4]}")
    return wrong, asked


def test_every_listed_parameter_answers_as_its_expression_says(demo: Server) -> None:
    wrong, asked = disagreements(demo)
    assert not wrong, "\n".join(wrong)
    assert asked > 150


def test_the_comparison_can_fail(demo: Server) -> None:
    wrong, asked = disagreements(demo, flip=True)
    assert len(wrong) == asked
