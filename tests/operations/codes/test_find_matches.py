"""CodeSystem/$find-matches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.codes.asking import CODE_SYSTEM, KINDS, post, put, refusal
from tests.serving import BACKENDS, Server, served

Json = dict[str, Any]
WHERE = "CodeSystem/$find-matches"
SYSTEM = {"name": "system", "valueUri": KINDS}


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        put(server, CODE_SYSTEM)
        yield server


def exact(value: bool) -> Json:
    return {"name": "exact", "valueBoolean": value}


def known(code: str, **value: Any) -> Json:
    parts: list[Json] = [{"name": "code", "valueCode": code}]
    parts += [{"name": "value", member: one} for member, one in value.items()]
    return {"name": "property", "part": parts}


def matches(found: Json) -> list[tuple[str, list[str]]]:
    """(code, what is not of it)"""
    rows = []
    for match in found.get("parameter", ()):
        parts = match["part"]
        missed = [p["part"][0]["valueCode"] for p in parts if p["name"] == "unmatched"]
        rows.append((parts[0]["valueCoding"]["code"], missed))
    return rows


def test_everything_must_match(server: Server) -> None:
    organ, words = known("organ", valueString="heart"), known("display", valueString="dis hea")
    assert matches(post(server, WHERE, SYSTEM, exact(True), organ, words)) == [("heart", [])]
    found = post(server, "CodeSystem/kinds/$find-matches", exact(True), organ)
    assert matches(found) == [("heart", [])]
    coding = found["parameter"][0]["part"][0]["valueCoding"]
    assert coding == {"system": KINDS, "version": "2", "code": "heart", "display": "Heart disease"}
    below = known("parent", valueCode="heart")
    assert [c for c, _ in matches(post(server, WHERE, SYSTEM, exact(True), below))] == [
        "infarct",
        "dropsy",
    ]


def test_the_most_of_it(server: Server) -> None:
    organ, below = known("organ", valueString="heart"), known("parent", valueCode="disease")
    found = matches(post(server, WHERE, SYSTEM, exact(False), organ, below))
    assert found[0] == ("heart", []) and ("lung", ["organ"]) in found


def test_what_is_refused(server: Server) -> None:
    one = known("organ", valueString="heart")
    for given, status, code in (
        ([SYSTEM, exact(True)], 400, "required"),
        ([exact(True), one], 400, "required"),
        ([SYSTEM, one], 400, "required"),
        ([SYSTEM, exact(True), known("colour", valueString="red")], 422, "invalid"),
        ([{"name": "system", "valueUri": "urn:x"}, exact(True), one], 404, "not-found"),
        (
            [SYSTEM, exact(True), one, {"name": "compositional", "valueBoolean": True}],
            422,
            "not-supported",
        ),
    ):
        assert refusal(post(server, WHERE, *given, status=status))[0] == code, given
