"""Every listed search parameter against a naive evaluation of its expression, on demo data."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from functools import cache

import pytest

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from tests.serving import Json, Server

from .naive import ASK, Question, questions
from .searching import ids, walk

from .conftest import DEMO  # isort: skip

pytestmark = pytest.mark.slow

PARTS = 6
DOWNLOADED = 1000
"""Larger answers are counted, and their first page is compared."""


def stored() -> dict[str, list[Json]]:
    by_type: dict[str, list[Json]] = {}
    with gzip.open(DEMO) as lines:
        for line in lines:
            resource = loads(line)
            by_type.setdefault(resource["resourceType"], []).append(resource)
    return by_type


def listed(server: Server) -> dict[str, set[str]]:
    """type -> codes of the parameters in the CapabilityStatement."""
    statement = server.get("metadata").json()["rest"][0]["resource"]
    return {r["type"]: {p["name"] for p in r["searchParam"]} for r in statement}


def difference(server: Server, asked: Question) -> set[str]:
    """The ids by which an answer is not what is expected."""
    if len(asked.expected) > DOWNLOADED:
        total = server.get(f"{asked.query}&_summary=count").json()["total"]
        page = set(ids(server.get(f"{asked.query}&_count=200").json()))
        return page - asked.expected | ({str(total)} if total != len(asked.expected) else set())
    pages = walk(server, f"{asked.query}&_count=1000")
    return {id_ for page in pages for id_ in ids(page)} ^ asked.expected


@cache
def every_question() -> tuple[Question, ...]:
    codes = {t: frozenset(load().search_parameters(t)) for t in load().resource_types}
    return tuple(q for t, resources in stored().items() for q in questions(t, resources, codes[t]))


def disagreements(
    server: Server, asked: Iterable[Question], flip: bool = False
) -> tuple[list[str], int]:
    """(queries whose answer is not the naive one, queries asked)."""
    codes, wrong, count = listed(server), [], 0
    for question in asked:
        type_, _, name = question.query.partition("?")
        if name.partition("=")[0].partition(":")[0] not in codes[type_]:
            continue
        if flip:
            question = question._replace(expected=question.expected ^ {"nobody"})
        count += 1
        if differs := difference(server, question):
            wrong.append(f"{question.query}: {sorted(differs)[:4]}")
    return wrong, count


@pytest.mark.parametrize("part", range(PARTS))
def test_every_listed_parameter_answers_as_its_expression_says(demo: Server, part: int) -> None:
    wrong, asked = disagreements(demo, every_question()[part::PARTS])
    assert not wrong, "\n".join(wrong)
    assert asked > 200


def test_the_comparison_can_fail(demo: Server) -> None:
    wrong, asked = disagreements(demo, every_question()[::50], flip=True)
    assert len(wrong) == asked > 20


def test_every_kind_of_parameter_is_asked() -> None:
    kinds = {"token", "string", "reference", "date", "number", "quantity", "uri", "composite"}
    assert kinds | {"special"} == set(ASK)
